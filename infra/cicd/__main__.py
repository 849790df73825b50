"""`python -m infra.cicd parameters | clear | show | execute | undo`: what a deployment does around `sam deploy`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.cicd.change_set import as_markdown, clear_change_sets, execute, newest_change_set, read_changes
from infra.cicd.parameters import deployment_parameters
from infra.cicd.undo import Deployed, put_back, remember
from infra.errors import InfraError

SAMCONFIG = Path("samconfig.toml")
BEFORE = Path("build/before.json")
"""Where `execute` keeps what was deployed, for `undo`."""


def parameters(_: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Writes the parameters for `sam deploy`, a line each."""
    more = dict(word.split("=", 1) for word in options.more)
    sys.stdout.writelines(f"{word}\n" for word in deployment_parameters(SAMCONFIG, options.environment, more))


def clear(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Deletes change sets of before that were never carried out."""
    for name in clear_change_sets(clients("cloudformation"), options.stack):
        sys.stdout.write(f"{options.stack}: {name} was never carried out, deleted\n")


def show(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Writes what the newest change set would do, in Markdown, and its name for the steps to come."""
    cloudformation = clients("cloudformation")
    name = newest_change_set(cloudformation, options.stack)
    changes = read_changes(cloudformation, options.stack, name) if name else []
    sys.stdout.write(as_markdown(options.stack, changes) + "\n")
    if options.github_output:
        with options.github_output.open("a", encoding="utf-8") as output:
            output.write(f"change_set={name or ''}\n")


def execute_command(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Remembers what is deployed, and carries a change set out."""
    cloudformation = clients("cloudformation")
    if before := remember(cloudformation, options.stack):
        options.before.parent.mkdir(parents=True, exist_ok=True)
        before.store(options.before)
    sys.stdout.write(f"{options.stack}: {execute(cloudformation, options.stack, options.change_set)}\n")


def undo(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Puts back what `execute` remembered; after a first deployment there is nothing to put back."""
    if not options.before.exists():
        sys.stdout.write(f"{options.stack}: a first deployment, left as it is\n")
        return
    deployed = Deployed.load(options.before)
    status = put_back(clients("cloudformation"), clients("s3"), options.bucket, deployed)
    sys.stdout.write(f"{options.stack}: {status}, as it was before\n")


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.cicd", description=__doc__)
    parser.add_argument("--endpoint-url", help="Another AWS than the real one.")
    commands = parser.add_subparsers(required=True)
    parameters_parser = commands.add_parser("parameters", help=parameters.__doc__)
    parameters_parser.set_defaults(command=parameters)
    parameters_parser.add_argument("--environment", required=True, help="One of samconfig.toml's.")
    parameters_parser.add_argument("more", nargs="*", metavar="Name=value", help="Added; an empty value is left out.")
    for name, command in (("clear", clear), ("show", show), ("execute", execute_command), ("undo", undo)):
        subparser = commands.add_parser(name, help=command.__doc__)
        subparser.set_defaults(command=command)
        subparser.add_argument("--stack", required=True)
        if name == "show":
            subparser.add_argument("--github-output", type=Path, help="The file that a step's outputs go to.")
        if name in {"execute", "undo"}:
            subparser.add_argument("--before", type=Path, default=BEFORE, help="What was deployed before.")
        if name == "execute":
            subparser.add_argument("--change-set", required=True, help="Its name.")
        if name == "undo":
            subparser.add_argument("--bucket", required=True, help="The artefact bucket.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs a step, and returns its exit code."""
    options = read_options(arguments)
    try:
        options.command(lambda service: boto3.client(service, endpoint_url=options.endpoint_url), options)
    except (BotoCoreError, ClientError, InfraError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
