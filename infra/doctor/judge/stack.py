"""What is deployed: CloudFormation's status, what differs from it, and which version of the function serves."""

from collections.abc import Iterator

from infra.doctor.facts import ReleaseFacts, StackFacts
from infra.doctor.finding import Finding, bad, good, warning

_N_NAMED = 3
"""Differences that a finding names; the rest it counts."""

_READ_EVENTS = "`aws cloudformation describe-stack-events` says why"
_BAD_STATUS = {
    "CREATE_FAILED": f"delete it and deploy again; {_READ_EVENTS}",
    "ROLLBACK_COMPLETE": f"it never was: delete it and deploy again; {_READ_EVENTS}",
    "ROLLBACK_FAILED": f"delete it and deploy again; {_READ_EVENTS}",
    "UPDATE_FAILED": f"`aws cloudformation rollback-stack`, and deploy again; {_READ_EVENTS}",
    "UPDATE_ROLLBACK_FAILED": f"`aws cloudformation continue-update-rollback`, and deploy again; {_READ_EVENTS}",
    "DELETE_FAILED": f"delete it again, or deploy it again to keep it; {_READ_EVENTS}",
    "DELETE_COMPLETE": "deploy it again",
}


def judge_status(facts: StackFacts) -> Iterator[Finding]:
    """Judges CloudFormation's word on the stack."""
    status = facts.status
    what = f"{facts.name} is {status}"
    if status in _BAD_STATUS:
        yield bad("stack", what, _BAD_STATUS[status])
    elif status == "REVIEW_IN_PROGRESS":
        yield warning("stack", what, "it was never deployed: execute its change set, or delete it and deploy again")
    elif status.endswith("IN_PROGRESS"):
        yield warning("stack", what, "look again when it has ended")
    elif "ROLLBACK" in status:
        yield warning("stack", what, f"the last update failed and was put back; {_READ_EVENTS}")
    else:
        yield good("stack", what)


def judge_drift(facts: StackFacts) -> Iterator[Finding]:
    """Judges the three ways in which a stack can be another than it seems: a template, a parameter, a resource."""
    if facts.drift:
        what = f"the template here is not the one deployed: {_some(facts.drift)}"
        yield warning("drift", what, "run `sam build && sam deploy`, or check out what is deployed")
    elif facts.drift is not None:
        yield good("drift", "the template here is the one deployed")
    if changed := _changed_by_hand(facts):
        sentences = [f"{name} is {now}, deployed as {deployed}" for name, now, deployed in changed]
        keep = " ".join(f"{name}={now}" for name, now, _ in changed)
        yield warning(
            "parameters",
            f"changed since it was deployed, and not by deploying: {_some(sentences)}",
            f"to keep it, deploy with {keep}; else put it back by hand, for CloudFormation does not see the difference",
        )
    elif facts.parameters:
        yield good("parameters", "what it was deployed with still stands")
    if facts.resource_drift == "DRIFTED":
        what = "CloudFormation found resources that are not as deployed when it was last asked"
        remedy = f"`aws cloudformation describe-stack-resource-drifts --stack-name {facts.name}` names them"
        yield warning("resources", what, f"{remedy}: deploy what is right, and ask again by `detect-stack-drift`")


def _some(sentences: tuple[str, ...] | list[str]) -> str:
    n_more = len(sentences) - _N_NAMED
    return "; ".join(sentences[:_N_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")


def _changed_by_hand(facts: StackFacts) -> list[tuple[str, str, str]]:
    """Returns parameters that are another now: name, value now, value deployed."""
    parts = (*facts.streams, facts.mapping, facts.function, facts.concurrency)
    now = {name: value for part in parts if part for name, value in part.parameters.items()}
    deployed = facts.parameters
    return [(name, value, deployed[name]) for name, value in now.items() if deployed.get(name, value) != value]


def judge_release(facts: StackFacts) -> Iterator[Finding]:
    """Judges which version of the function gets the batches."""
    release = facts.release
    if release is None:
        return
    if release.next_version:
        yield _rollout(release)
    elif release.published not in {"", release.serving}:
        where = f"--function-name {release.function} --name {release.alias} --function-version {release.published}"
        yield warning(
            "release",
            f"version {release.serving} serves, and the stack published {release.published}",
            f"a rollout about to begin looks like this; else deploy again, or `aws lambda update-alias {where}`",
        )
    else:
        latest = "the latest that the stack published" if release.published else "of the stack's own nothing is known"
        yield good("release", f"version {release.serving} serves, {latest}")
    if facts.parameters.get("RolloutAlarms") == "Ignored":
        what = "no alarm takes new code back: it was deployed with RolloutAlarms=Ignored"
        yield warning("release", what, "deploy with RolloutAlarms=Watched, once the fix that it was for is out")


def _rollout(release: ReleaseFacts) -> Finding:
    what = f"version {release.next_version} gets {release.next_share:.0%} of the batches, {release.serving} the rest"
    return warning(
        "release",
        what,
        "a rollout is under way: look again when it has ended. `aws deploy stop-deployment --auto-rollback-enabled` "
        "takes it back; where CodeDeploy has none under way, deploy again",
    )
