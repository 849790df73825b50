"""`python -m infra.stack.change_set plan | execute | verify | undo`: the steps of a deployment in .github/workflows."""

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from infra.stack import deployment
from infra.stack.changes import as_markdown, read_changes
from infra.stack.describe import find_stack
from infra.stack.upload import differing_functions, read_release, upload
from training.errors import UserError

SAMCONFIG = Path("samconfig.toml")
RELEASE = Path("build/release")
BEFORE = Path("build/before.json")
"""Where `execute` stores what was deployed, for `undo`."""


def plan(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Upload a release, make its change set and write the changes in Markdown; delete change sets left from before."""
    release = read_release(options.release)
    settings = deployment.read_settings(options.samconfig, options.environment)
    cloudformation = client("cloudformation")
    for name in deployment.clear_change_sets(cloudformation, options.stack):
        sys.stderr.write(f"{options.stack}: {name} was never executed, deleted\n")
    stack = find_stack(cloudformation, options.stack)
    boundary = {"PermissionsBoundaryArn": options.boundary} if options.boundary else {}
    wanted = deployment.Wanted(
        name=options.stack,
        template_url=upload(client("s3"), options.bucket, options.stack, release),
        parameters={**deployment.kept_parameters(stack, release.template), **settings.parameters, **boundary},
        tags=settings.tags,
        capabilities=settings.capabilities,
        role_arn=options.execution_role,
    )
    change_set = deployment.make_change_set(cloudformation, wanted, "release")
    changes = read_changes(cloudformation, options.stack, change_set.partition("/")[0]) if change_set else []
    account = options.execution_role.split(":")[4] if options.execution_role else ""
    sys.stdout.write(as_markdown(options.stack, changes, account) + "\n")
    for file, data in release.packages.items():
        sys.stdout.write(f"\n{file}: SHA-256 {hashlib.sha256(data).hexdigest()}\n")
    if options.github_output:
        with options.github_output.open("a", encoding="utf-8") as output:
            output.write(f"change_set={change_set or ''}\n")


def execute(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Store what is deployed, and execute a change set."""
    cloudformation = client("cloudformation")
    if before := deployment.read_deployed(cloudformation, options.stack):
        options.before.parent.mkdir(parents=True, exist_ok=True)
        options.before.write_bytes(msgspec.json.encode(before))
    sys.stdout.write(f"{options.stack}: {deployment.execute(cloudformation, options.stack, options.change_set)}\n")


def verify(client: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Compare the code that Lambda runs with the release's, by their digests."""
    release = read_release(options.release)
    if problems := differing_functions(client("cloudformation"), client("lambda"), options.stack, release):
        raise UserError("; ".join(problems), "deploy again, and find out who has changed the functions")
    sys.stdout.write(f"{options.stack}: {len(release.functions)} functions run the release's code\n")


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
    for command in (plan, execute, verify, undo):
        subparser = commands.add_parser(command.__name__, help=command.__doc__)
        subparser.set_defaults(command=command)
        subparser.add_argument("--stack", required=True)
        for name, described in _OPTIONS.items():
            if command.__name__ in described["of"]:
                subparser.add_argument(name, **{key: value for key, value in described.items() if key != "of"})
    return parser.parse_args(arguments)


_OPTIONS: dict[str, dict[str, Any]] = {
    "--environment": {"of": {"plan"}, "required": True, "help": "One of samconfig.toml's."},
    "--samconfig": {"of": {"plan"}, "type": Path, "default": SAMCONFIG, "help": "Parameters, tags and capabilities."},
    "--execution-role": {
        "of": {"plan"},
        "default": "",
        "help": "The ARN of the role that CloudFormation deploys with.",
    },
    "--boundary": {"of": {"plan"}, "default": "", "help": "The ARN for the parameter PermissionsBoundaryArn."},
    "--github-output": {"of": {"plan"}, "type": Path, "help": "The file for the step's outputs."},
    "--release": {"of": {"plan", "verify"}, "type": Path, "default": RELEASE, "help": "The release's folder."},
    "--bucket": {"of": {"plan", "undo"}, "required": True, "help": "The artefact bucket."},
    "--change-set": {"of": {"execute"}, "required": True, "help": "Its identity, plan's output."},
    "--before": {
        "of": {"execute", "undo"},
        "type": Path,
        "default": BEFORE,
        "help": "The file with what was deployed.",
    },
}
"""Options by name, each with the steps that take it."""


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
