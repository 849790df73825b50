"""The deployed stack: its status, differences from the deployment, and the function version that serves."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from infra.operate.doctor.facts import Finding, ReleaseFacts, StackFacts, bad, good, warning
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

_N_NAMED = 3
"""Differences that a finding names; it counts the rest."""

_READ_EVENTS = "`aws cloudformation describe-stack-events` gives the reason"
_BAD_STATUS = {
    "CREATE_FAILED": f"delete it and deploy again; {_READ_EVENTS}",
    "ROLLBACK_COMPLETE": f"it was never created: delete it and deploy again; {_READ_EVENTS}",
    "ROLLBACK_FAILED": f"delete it and deploy again; {_READ_EVENTS}",
    "UPDATE_FAILED": f"`aws cloudformation rollback-stack`, and deploy again; {_READ_EVENTS}",
    "UPDATE_ROLLBACK_FAILED": f"`aws cloudformation continue-update-rollback`, and deploy again; {_READ_EVENTS}",
    "DELETE_FAILED": f"delete it again, or deploy it again to keep it; {_READ_EVENTS}",
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
            "check name, region and profile",
        )
    return replace(stack, outputs={}) if missing else stack


def check_status(facts: StackFacts) -> Iterator[Finding]:
    """Check CloudFormation's status of the stack."""
    status = facts.status
    what = f"{facts.name} is {status}"
    if status in _BAD_STATUS:
        yield bad("stack", what, _BAD_STATUS[status])
    elif status == "REVIEW_IN_PROGRESS":
        yield warning("stack", what, "it was never deployed: execute its change set, or delete it and deploy again")
    elif status.endswith("IN_PROGRESS"):
        yield warning("stack", what, "run this command again when the operation has ended")
    elif "ROLLBACK" in status:
        yield warning("stack", what, f"the last update failed and was rolled back; {_READ_EVENTS}")
    else:
        yield good("stack", what)


def check_template(facts: StackFacts) -> Iterator[Finding]:
    """Check that the local template is the deployed one."""
    if facts.template_diff:
        what = f"the template here is not the deployed one: {_first(facts.template_diff)}"
        yield warning("template diff", what, "run `sam build && sam deploy`, or check out what is deployed")
    elif facts.template_diff is not None:
        yield good("template diff", "the template here is the deployed one")


def check_parameters(facts: StackFacts) -> Iterator[Finding]:
    """Check that nobody has changed, without a deployment, what the parameters set."""
    parts = (*facts.streams, facts.mapping, facts.function, facts.concurrency)
    now = {name: value for part in parts if part for name, value in part.parameters.items()}
    changed = {name: value for name, value in now.items() if facts.parameters.get(name, value) != value}
    if changed:
        sentences = [f"{name} is {value}, deployed as {facts.parameters[name]}" for name, value in changed.items()]
        values = " ".join(f"{name}={value}" for name, value in changed.items())
        yield warning(
            "parameters",
            f"changed since the deployment, without a deployment: {_first(sentences)}",
            f"to keep this, deploy with {values}; else undo it by hand, because CloudFormation does not detect it",
        )
    elif facts.parameters:
        yield good("parameters", "they are as deployed")


def check_resources(facts: StackFacts) -> Iterator[Finding]:
    """Check the result of CloudFormation's last drift detection."""
    if facts.resource_drift == "DRIFTED":
        what = "CloudFormation's last drift detection found resources that are not as deployed"
        remedy = f"`aws cloudformation describe-stack-resource-drifts --stack-name {facts.name}` names them"
        yield warning("resources", what, f"{remedy}: deploy the right values, and run `detect-stack-drift` again")


def check_release(facts: StackFacts) -> Iterator[Finding]:
    """Check which version of the function gets the batches."""
    release = facts.release
    if release is None:
        return
    yield _release(release)
    if facts.parameters.get("RolloutAlarms") == "Ignored":
        what = "no alarm rolls new code back: the stack was deployed with RolloutAlarms=Ignored"
        yield warning("release", what, "deploy with RolloutAlarms=Watched as soon as the urgent fix is deployed")


def _release(release: ReleaseFacts) -> Finding:
    if release.next_version:
        return warning(
            "release",
            f"version {release.next_version} gets {release.next_share:.0%} of the batches, {release.serving} the rest",
            "a rollout is running: run this command again when it has ended. "
            "`aws deploy stop-deployment --auto-rollback-enabled` takes it back; "
            "if CodeDeploy has no deployment running, deploy again",
        )
    if release.published not in {"", release.serving}:
        where = f"--function-name {release.function} --name {release.alias} --function-version {release.published}"
        return warning(
            "release",
            f"version {release.serving} serves, and the stack published {release.published}",
            f"a rollout may be about to begin; else deploy again, or `aws lambda update-alias {where}`",
        )
    latest = "the latest that the stack published" if release.published else "and the stack lists no version"
    return good("release", f"version {release.serving} serves, {latest}")


def _first(sentences: Sequence[str]) -> str:
    n_more = len(sentences) - _N_NAMED
    return "; ".join(sentences[:_N_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")
