"""The deployed stack: its status, differences from the deployment, and the function version that serves."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.operate.doctor.facts import Finding, ReleaseFacts, StackFacts, first_of, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading
from infra.operate.doctor.template_diff import diff_deployed_template
from infra.stack.describe import DescribedStack, describe_stack
from training.errors import UserError

_OUTPUTS = (
    "FunctionName",
    "FunctionAliasArn",
    "BucketName",
    "RideEventsStream",
    "RideEventsArn",
    "RidePredictionsStream",
)
"""Outputs by which a ridecast stack is recognised."""

_BAD_STATUS = {
    "CREATE_FAILED": "delete it and deploy again",
    "ROLLBACK_COMPLETE": "it was never created: delete it and deploy again",
    "ROLLBACK_FAILED": "delete it and deploy again",
    "UPDATE_FAILED": "`aws cloudformation rollback-stack`, and deploy again",
    "UPDATE_ROLLBACK_FAILED": "`aws cloudformation continue-update-rollback`, and deploy again",
    "DELETE_FAILED": "delete it again, or deploy it again to keep it",
    "DELETE_COMPLETE": "deploy it again",
}


def describe_own_stack(cloudformation: Any, name: str) -> DescribedStack:
    """Return a stack of this project; without outputs if it is not deployed completely: only its status counts then.

    Raises:
        UserError: There is no such stack, or the caller may not describe it, or it is another project's.
    """
    stack = describe_stack(cloudformation, name)
    missing = [output for output in _OUTPUTS if output not in stack.outputs]
    if missing and stack.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        raise UserError(
            f"stack {name} is {stack.status} and has no output {missing[0]}, so it is not a ridecast stack",
            "check --stack, --region and --profile",
        )
    return replace(stack, outputs={}) if missing else stack


def read(reading: Reading, template: Path | None) -> dict[str, Any]:
    """Read how the deployed template differs from a local one."""
    cloudformation, name = reading.client("cloudformation"), reading.stack.name
    diff = reading.part("template diff", None, lambda: diff_deployed_template(cloudformation, name, template))
    return {"template_diff": diff}


def check_status(facts: StackFacts) -> Iterator[Finding]:
    """Check CloudFormation's status of the stack."""
    status = facts.status
    what = f"{facts.name} is {status}"
    if status in _BAD_STATUS:
        yield found("stack-failed", what, next=_BAD_STATUS[status], stack=facts.name)
    elif status == "REVIEW_IN_PROGRESS":
        yield found("stack-not-deployed", f"{what}: it was never deployed")
    elif status.endswith("IN_PROGRESS"):
        yield found("stack-in-progress", what)
    elif "ROLLBACK" in status:
        yield found("stack-rolled-back", f"{what}: the last update failed and was rolled back", stack=facts.name)
    else:
        yield good("stack", what)


def check_template(facts: StackFacts) -> Iterator[Finding]:
    """Check that the local template is the deployed one."""
    if facts.template_diff:
        yield found("template-differs", f"the template here is not the deployed one: {first_of(facts.template_diff)}")
    elif facts.template_diff is not None:
        yield good("template diff", "the template here is the deployed one")


def check_parameters(facts: StackFacts) -> Iterator[Finding]:
    """Check that nobody has changed, without a deployment, what the parameters set."""
    parts = (*facts.streams, facts.mapping, facts.function, facts.concurrency)
    now = [pair for part in parts if part for pair in part.parameters.items()]  # several streams have a StreamMode
    changed = {name: value for name, value in now if facts.parameters.get(name, value) != value}
    if changed:
        sentences = [f"{name} is {value}, deployed as {facts.parameters[name]}" for name, value in changed.items()]
        values = " ".join(f"{name}={value}" for name, value in changed.items())
        what = f"changed since the deployment, without a deployment: {first_of(sentences)}"
        yield found("parameters-changed", what, values=values)
    elif facts.parameters:
        yield good("parameters", "they are as deployed")


def check_resources(facts: StackFacts) -> Iterator[Finding]:
    """Check the result of CloudFormation's last drift detection."""
    if facts.resource_drift == "DRIFTED":
        what = "CloudFormation's last drift detection found resources that are not as deployed"
        yield found("resources-drifted", what, stack=facts.name)


def check_release(facts: StackFacts) -> Iterator[Finding]:
    """Check which version of the function gets the batches."""
    release = facts.release
    if release is None:
        return
    yield _release(release)
    if facts.parameters.get("RolloutAlarms") == "Ignored":
        what = "no alarm rolls new code back: the stack was deployed with RolloutAlarms=Ignored"
        yield found("rollout-unwatched", what)


def _release(release: ReleaseFacts) -> Finding:
    if release.next_version:
        share = f"version {release.next_version} gets {release.next_share:.0%} of the batches"
        return found("rollout-running", f"{share}, {release.serving} the rest")
    if release.published not in {"", release.serving}:
        return found(
            "version-not-serving",
            f"version {release.serving} serves, and the stack published {release.published}",
            function=release.function,
            alias=release.alias,
            version=release.published,
        )
    latest = "the latest that the stack published" if release.published else "and the stack lists no version"
    return good("release", f"version {release.serving} serves, {latest}")
