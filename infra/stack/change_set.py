"""`python -m infra.stack.change_set parameters | clear | show | execute | undo`: a deployment's steps around sam."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from infra.stack import deployment
from training.errors import UserError

SAMCONFIG = Path("samconfig.toml")
BEFORE = Path("build/before.json")
"""Where `execute` stores what was deployed, for `undo`."""


def parameters(_: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Write the parameters for `sam deploy`, one a line."""
    more = dict(word.split("=", 1) for word in options.more)
    found = deployment.deployment_parameters(SAMCONFIG, options.environment, more)
    sys.stdout.writelines(f"{word}\n" for word in found)


def clear(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Delete older change sets that were never executed."""
    for name in deployment.clear_change_sets(client("cloudformation"), options.stack):
        sys.stdout.write(f"{options.stack}: {name} was never executed, deleted\n")


def show(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Write the changes of the newest change set in Markdown, and its name as a step output."""
    cloudformation = client("cloudformation")
    name = deployment.newest_change_set(cloudformation, options.stack)
    changes = deployment.read_changes(cloudformation, options.stack, name) if name else []
    sys.stdout.write(deployment.as_markdown(options.stack, changes) + "\n")
    if options.github_output:
        with options.github_output.open("a", encoding="utf-8") as output:
            output.write(f"change_set={name or ''}\n")


def execute(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Store what is deployed, and execute a change set."""
    cloudformation = client("cloudformation")
    if before := deployment.read_deployed(cloudformation, options.stack):
        options.before.parent.mkdir(parents=True, exist_ok=True)
        options.before.write_bytes(msgspec.json.encode(before))
    sys.stdout.write(f"{options.stack}: {deployment.execute(cloudformation, options.stack, options.change_set)}\n")


def undo(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Deploy what `execute` stored; after a first deployment there is nothing to undo."""
    if not options.before.exists():
        sys.stdout.write(f"{options.stack}: a first deployment, left as it is\n")
        return
    deployed = msgspec.json.decode(options.before.read_bytes(), type=deployment.Deployed)
    status = deployment.undo(client("cloudformation"), client("s3"), options.bucket, deployed)
    sys.stdout.write(f"{options.stack}: {status}, as it was before\n")


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack.change_set", description=__doc__)
    parser.add_argument("--endpoint-url", help="Another AWS than the real one.")
    commands = parser.add_subparsers(required=True)
    parameters_parser = commands.add_parser("parameters", help=parameters.__doc__)
    parameters_parser.set_defaults(command=parameters)
    parameters_parser.add_argument("--environment", required=True, help="One of samconfig.toml's.")
    parameters_parser.add_argument("more", nargs="*", metavar="Name=value", help="Added; an empty value is ignored.")
    for command in (clear, show, execute, undo):
        subparser = commands.add_parser(command.__name__, help=command.__doc__)
        subparser.set_defaults(command=command)
        subparser.add_argument("--stack", required=True)
        if command is show:
            subparser.add_argument("--github-output", type=Path, help="The file for the step's outputs.")
        if command in {execute, undo}:
            subparser.add_argument(
                "--before", type=Path, default=BEFORE, help="The file with what was deployed before."
            )
        if command is execute:
            subparser.add_argument("--change-set", required=True, help="Its name.")
        if command is undo:
            subparser.add_argument("--bucket", required=True, help="The artefact bucket.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run a step, and return its exit code."""
    options = read_options(arguments)
    try:
        options.command(lambda service: boto3.client(service, endpoint_url=options.endpoint_url), options)
    except (BotoCoreError, ClientError, UserError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
