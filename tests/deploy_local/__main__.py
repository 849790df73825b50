"""`make deploy-local`: a stack's whole life by the real `sam`, on the embedded AWS, with rides under way all the time.

Deployed without a model, given one, updated, updated in a way that must fail, put back to the release before, deleted.
The function is the package that sam uploaded, in AWS's own runtime; its mapping runs on through every deployment.
"""

import argparse
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from infra.local.aws import LocalAws
from infra.stack.package import ROOT
from tests.deploy_local.run import DeployReport, DeployRun
from training.errors import UserError

FOLDER = ROOT / "build" / "deploy-local"
"""Where the logs go."""

_STOPPED = 130
"""The exit code of a program that Ctrl-C ended."""


@contextmanager
def _failed_batches_to(path: Path) -> Iterator[None]:
    """Takes what the mapping logs, a traceback for each batch that failed, from the terminal: the first ones must."""
    handler, logger = logging.FileHandler(path, encoding="utf-8"), logging.getLogger("infra")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def run_deploy_local(folder: Path, say: Callable[[str], object]) -> DeployReport:
    """Runs it once.

    Args:
        folder: Where the logs go.
        say: Told a line a step.

    Raises:
        UserError: A step did not end as it must.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        log.unlink()
    with (
        _failed_batches_to(folder / "mapping.log"),
        LocalAws() as aws,
        tempfile.TemporaryDirectory(prefix="deploy-local-") as scratch,
    ):
        run = DeployRun(aws, folder, Path(scratch), say)
        run.run()
    return run.report


def _stop(*_: object) -> NoReturn:
    """Ends the run as Ctrl-C does: on the way out processes are ended and the scratch folder goes."""
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Runs it, prints the report as one JSON object on the last line, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy_local", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the logs go")
    options = parser.parse_args(arguments)
    for by in (signal.SIGINT, signal.SIGTERM):
        signal.signal(by, _stop)
    try:
        report = run_deploy_local(options.folder, _say)
    except UserError as error:
        sys.stderr.write(f"deploy-local: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"deploy-local: stopped; the logs are in {options.folder}\n")
        return _STOPPED
    _say(json.dumps(asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
