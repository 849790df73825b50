"""A stack as CloudFormation tells of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from infra.operate.doctor.facts import Finding, ReleaseFacts, StackFacts, bad, good, warning
from infra.stack.describe import DescribedStack, describe_stack
from infra.stack.template import read_template
from training.errors import UserError

# MERGED FROM infra/doctor/judge/stack.py
# What is deployed: CloudFormation's status, what differs from it, and which version of the function serves.
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


_OUTPUTS = (
    "FunctionName",
    "FunctionAliasArn",
    "BucketName",
    "RideEventsStream",
    "RideEventsArn",
    "RidePredictionsStream",
)
"""What a stack of this project says of itself."""


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


def look_at_drift(cloudformation: Any, name: str, template: Path | None) -> tuple[str, ...] | None:
    """Compares a template with the deployed one; None where there is none to compare with.

    Raises:
        ClientError: CloudFormation refused.
        YAMLError: What is deployed can't be read.
        TemplateError: The one here can't be.
    """
    if template is None:
        return None
    answer = cloudformation.get_template(StackName=name, TemplateStage="Original")
    return differences(read_template(template), parse_deployed(answer["TemplateBody"]))


# MERGED FROM infra/doctor/drift.py
# What differs between a template here and the one that was deployed; being built and packaged is no difference.
_MADE_BY_SAM = {"CodeUri", "Metadata", "DefinitionUri"}
"""Building points them elsewhere."""

_SECTIONS = ("Parameters", "Mappings", "Conditions", "Rules", "Globals", "Resources", "Outputs")

_LONGEST_VALUE = 30
"""Characters of a value that a sentence shows; of a longer one it only says that it differs."""


def parse_deployed(body: object) -> dict[str, Any]:
    """Reads what GetTemplate gives: JSON that boto3 has decoded, or YAML, its functions in their long form.

    Raises:
        YAMLError: It is neither, or has functions in their short form: `sam deploy` writes none.
    """
    decoded: dict[str, Any] = yaml.safe_load(body) if isinstance(body, str) else json.loads(json.dumps(body))
    return decoded


def differences(here: Mapping[str, Any], deployed: Mapping[str, Any]) -> tuple[str, ...]:
    """Tells what differs, a sentence an entry of a section; of an entry on both sides, where it first does.

    >>> differences({"Resources": {"A": {"Type": "x"}}}, {"Resources": {"B": {"Type": "x"}}})
    ('A is only here', 'B is only deployed')
    >>> differences({"Parameters": {"A": {"Default": 2}}}, {"Parameters": {"A": {"Default": 1}}})
    ('A.Default is 2 here, 1 deployed',)
    """
    found: list[str] = []
    for section in _SECTIONS:
        mine, theirs = here.get(section, {}), deployed.get(section, {})
        names = dict.fromkeys([*mine, *theirs])
        firsts = (next(_differing(name, _side(mine, name), _side(theirs, name)), "") for name in names)
        found += [sentence for sentence in firsts if sentence]
    return tuple(found)


class _Nothing:
    """What one side has not got."""


_NOTHING = _Nothing()


def _side(entries: Mapping[str, Any], name: str) -> Any:
    return _plain(entries[name]) if name in entries else _NOTHING


def _differing(path: str, mine: Any, theirs: Any) -> Iterator[str]:
    """Tells of each place below a path where two plain values differ, the first first."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*mine, *theirs]):
            yield from _differing(f"{path}.{key}", mine.get(key, _NOTHING), theirs.get(key, _NOTHING))
    elif mine is _NOTHING:
        yield f"{path} is only deployed"
    elif theirs is _NOTHING:
        yield f"{path} is only here"
    elif mine != theirs:
        both = all(isinstance(side, str) and len(side) <= _LONGEST_VALUE for side in (mine, theirs))
        yield f"{path} is {mine} here, {theirs} deployed" if both else f"{path} differs"


def _plain(node: Any) -> Any:
    """Returns a piece of template as it is compared: a number is its text, and GetAtt is the same in both its forms."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, Mapping):
        return str(node).lower() if isinstance(node, bool) else str(node)
    if set(node) == {"Fn::GetAtt"}:
        target = node["Fn::GetAtt"]
        return {"Fn::GetAtt": target if isinstance(target, str) else ".".join(target)}
    return {key: _plain(value) for key, value in node.items() if key not in _MADE_BY_SAM}
