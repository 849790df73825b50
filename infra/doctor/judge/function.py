"""Whether the function works: its mapping, its settings, its looks at the channel, and what it made of the rides."""

from collections.abc import Iterator

from infra.doctor.facts import StackFacts, WorkFacts
from infra.doctor.finding import Finding, bad, good, warning

MAX_REJECT_SHARE = 0.01
"""As RejectShareAlarm's default."""

MAX_RECORD_AGE_S = 300.0
"""As IteratorAgeAlarm's default."""

_FAILED = "PROBLEM"
"""How Lambda begins the last result of a mapping that is not well."""


def judge_mapping(facts: StackFacts) -> Iterator[Finding]:
    """Judges whether rides are read, and handed over."""
    mapping = facts.mapping
    if mapping is None:
        return
    what = f"the mapping is {mapping.state}, its last result: {mapping.last_result or 'none yet'}"
    if not mapping.state:
        what = "no mapping leads from the input stream to the function's alias"
        yield bad("mapping", what, "deploy again: no ride is read; they wait in the stream for 48 hours")
    elif mapping.state in {"Disabled", "Disabling", "Deleting"}:
        remedy = "`aws lambda update-event-source-mapping --enabled`: no ride is read; they wait in the stream"
        yield bad("mapping", what, f"{remedy} for 48 hours")
    elif mapping.last_result.startswith(_FAILED):
        yield bad("mapping", what, "read the function's log; if it says nothing, its role may lack a permission")
    elif mapping.state != "Enabled":
        yield warning("mapping", what, "look again in a minute")
    else:
        yield good("mapping", what)


def judge_function(facts: StackFacts) -> Iterator[Finding]:
    """Judges whether the function could start."""
    function = facts.function
    if function is None:
        return
    ready = function.state in {"Active", "Inactive"}  # Lambda lets an unused function rest
    state = f"{function.name} is {function.state}" + (f": {function.state_reason}" if function.state_reason else "")
    if function.state == "Pending":
        yield warning("function", state, "look again in a minute: Lambda is making it, and its snapshot")
    elif not ready:
        yield bad("function", state, "put right what Lambda says of it, and deploy again")
    if function.settings_problem:
        what = f"its settings would fail the cold start: {function.settings_problem}"
        yield bad("function", what, "put the variable right in template.yaml and deploy")
    elif ready:
        yield good("function", f"{function.name} is {function.state}, and its settings are complete")


def judge_refresh(facts: StackFacts) -> Iterator[Finding]:
    """Judges the function's last looks at its channel, and those before them."""
    work = facts.work
    if work is None:
        return
    of_window = (
        f"{_times(work.n_refresh_failures, 'look')} at the channel failed in the last {facts.window_minutes} minutes"
    )
    recently = f"in the last {work.recent_minutes} minutes"
    remedy = "see `model`; if that is well, the function's log has `refresh_failed` with the reason"
    if work.n_recent_refresh_failures:
        what = f"{_times(work.n_recent_refresh_failures, 'look')} at the channel failed {recently}"
        yield bad("refresh", f"{what}: the function serves the model that it has", remedy)
    elif work.n_refresh_failures and not work.n_recent_records:
        yield bad("refresh", f"{of_window}, and no ride has come since to make it look again", remedy)
    elif work.n_refresh_failures:
        yield warning(
            "refresh", f"{of_window}, none {recently}", "it mended itself; the log's `refresh_failed` says what was"
        )
    elif work.n_records:
        yield good("refresh", f"no look at the channel failed in the last {facts.window_minutes} minutes")
    else:
        yield good("refresh", "no ride has come, so the function has not looked at its channel")


def judge_work(facts: StackFacts) -> Iterator[Finding]:
    """Judges what became of the rides in the window."""
    work = facts.work
    if work is None:
        return
    ill = [*_not_invoked(facts, work), *_not_finished(work), *_not_predicted(work)]
    figures = f"{work.n_records:,} records, {work.n_predictions:,} predictions, {work.n_rejects:,} rejects"
    yield from ill or [good("work", f"{figures} in the last {facts.window_minutes} minutes")]


def _not_invoked(facts: StackFacts, work: WorkFacts) -> Iterator[Finding]:
    stream = facts.stream("input")
    if stream and stream.n_records and not work.n_records:
        what = f"{stream.n_records:,} records arrived on {stream.name}, and the function has told of none"
        yield warning("work", what, "see `mapping`; if that is well, look again in some minutes: metrics come late")
    if work.n_throttles:
        what = f"Lambda throttled {_times(work.n_throttles, 'invocation')}"
        yield warning("work", what, "see `concurrency`; if that is well, other functions take it all: reserve some")
    if work.max_record_age_s > MAX_RECORD_AGE_S:
        what = f"rides waited up to {work.max_record_age_s:,.0f} s"
        yield warning("work", what, "see the other findings; if all is well, raise ParallelizationFactor or the shards")


def _not_finished(work: WorkFacts) -> Iterator[Finding]:
    n_failed = max(work.n_errors, work.n_exceptions)
    if not n_failed:
        return
    what = f"{_times(n_failed, 'invocation')} failed, {work.n_exceptions:,} by an exception; their batches come again"
    look_for = "`invocation failed`" if work.n_exceptions else "`Task timed out` or `Runtime exited`"
    yield bad("work", what, f"read the function's log for {look_for}; docs/runbook.md#functionerrorsalarm")


def _not_predicted(work: WorkFacts) -> Iterator[Finding]:
    what = f"{work.n_predictions:,} of {work.n_records:,} records were predicted, {work.n_rejects:,} are rejects"
    ask = "`ridecast rejects list` says which reasons; tell the producer"
    if work.n_rejects > MAX_REJECT_SHARE * work.n_records:
        yield warning("work", what, ask) if work.n_predictions else bad("work", what, ask)
    elif work.n_records and not work.n_predictions:
        yield bad("work", f"{what}: all come again", "see `output stream`, and `problem` in the function's log")


def _times(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"
