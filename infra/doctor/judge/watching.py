"""What waits for a person: alarms that sound or can't, and records that nobody has redriven."""

from collections.abc import Iterator

from infra.doctor.facts import AlarmFacts, StackFacts
from infra.doctor.finding import Finding, bad, good, warning


def judge_alarms(facts: StackFacts) -> Iterator[Finding]:
    """Judges the stack's alarms, each that sounds by itself."""
    alarms = facts.alarms
    sounding = _without_echo([alarm for alarm in alarms if alarm.state == "ALARM"])
    yield from (_sounding(alarm) for alarm in sounding)
    if missing := [alarm.name for alarm in alarms if not alarm.state]:
        what = f"somebody has deleted {', '.join(missing)}"
        yield bad("alarm", what, "CloudFormation does not notice: deploy once without them, and once with them")
    if muted := [alarm.name for alarm in alarms if alarm.is_muted]:
        what = f"nobody is told of {', '.join(muted)}"
        yield warning("alarm", what, f"`aws cloudwatch enable-alarm-actions --alarm-names {' '.join(muted)}`")
    if facts.n_told == 0:
        remedy = "deploy with AlarmEmail, or subscribe to the stack's AlarmTopicArn, and confirm what AWS then sends"
        yield warning("alarm topic", "it has no confirmed subscription: nobody is told of any alarm", remedy)
    if alarms and not sounding and not missing:
        yield good("alarm", f"none of {len(alarms)} alarms sounds")


def _without_echo(sounding: list[AlarmFacts]) -> list[AlarmFacts]:
    """Leaves out a composite alarm where the one that set it off is here."""
    return [alarm for alarm in sounding if not alarm.is_composite] or sounding


def _sounding(alarm: AlarmFacts) -> Finding:
    section = "" if alarm.is_composite else f"#{alarm.logical_name.lower()}"
    return bad("alarm", f"{alarm.name}: {alarm.reason or 'in alarm'}", f"docs/runbook.md{section} says what to do")


def judge_kept(facts: StackFacts) -> Iterator[Finding]:
    """Judges records that were put aside."""
    for kind, n_objects in facts.n_kept.items():
        what = f"{n_objects:,} objects of {kind} wait in the bucket"
        remedy = f"`ridecast {kind} list`, and `ridecast {kind} redrive` once the cause is gone"
        if not n_objects:
            yield good(kind, f"no {kind} wait")
        elif kind == "failures":
            yield bad(kind, what, f"{remedy}: their rides have no prediction")
        else:
            yield warning(kind, what, remedy)
