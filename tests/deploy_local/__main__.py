"""`make deploy-local`: deploy, update, roll back and delete a stack with the real `sam` while rides arrive.

The steps: deploy without a model, release a model, update, update in a way that must fail, deploy the first release
again, send outcomes and join, monitor, run the loop, check, deploy another stack on streams that exist already, delete.
The functions are the packages that sam uploaded, in AWS's own runtime; the event source mapping of the predicting one
runs during each deployment.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import logging_to
from infra.stack.template import ROOT
from tests.deploy_local.run import DeployReport, DeployRun
from training.errors import UserError

FOLDER = ROOT / "build" / "deploy-local"
"""The default folder for logs."""

_STOPPED = 130
"""The exit code after Ctrl-C."""


def run_deploy_local(folder: Path, say: Callable[[str], object]) -> DeployReport:
    """Run all steps once.

    Args:
        folder: Folder for logs.
        say: Receives a line when a step begins and when it ends.

    Raises:
        UserError: A step failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        log.unlink()
    with (
        logging_to(folder / "mapping.log"),
        LocalAws() as aws,
        tempfile.TemporaryDirectory(prefix="deploy-local-") as scratch,
    ):
        run = DeployRun(aws, folder, Path(scratch), say)
        run.run()
    return run.report


def _stop(*_: object) -> NoReturn:
    """End the run like Ctrl-C: `with` blocks end processes and remove the scratch folder."""
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run all steps, print each as it begins, and the result as the last line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy_local", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder for logs")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
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
    _say(json.dumps(asdict(report)) if options.json else f"deploy-local: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
