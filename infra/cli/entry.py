"""The start of `ridecast`: a signal ends it quietly while its modules are still being imported."""

from infra.cli.ending import end_at_once


def main() -> None:
    """Import and run the command line."""
    end_at_once()
    from infra.cli.app import main as run  # a tenth of a second

    run()
