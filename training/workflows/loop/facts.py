"""Read what the loop decides on: the channel, earlier runs, labelled rides and the state of monitoring."""

from datetime import date, datetime, timedelta

from lambda_function.core.channel import BEGINNING, Channel, aware_time
from training.monitoring.hours import Hour, hour_of_key
from training.monitoring.monitor.status import DamagedStatusError, MonitorStatus, load_status
from training.monitoring.new_york_days import day_of, hours_of_day
from training.monitoring.summary import FOLDER, DamagedSummaryError, load_summary, summary_key
from training.registry.bucket import Bucket
from training.registry.channel_history import DamagedChannelError, LostChannelError, is_lost, read_channel
from training.workflows.loop.decisions import Facts
from training.workflows.loop.options import CANDIDATE_CHANNEL, LoopOptions
from training.workflows.loop.state import last_run


def read_facts(bucket: Bucket, options: LoopOptions, run_id: str, now: datetime) -> Facts:
    """Read what a run begins with.

    Raises:
        BucketError: S3 fails.
    """
    facts = _read_champion(bucket, options.channel)
    facts = facts._replace(channel_problem=facts.channel_problem or _problem_of(bucket, CANDIDATE_CHANNEL))
    last = last_run(bucket, lambda run: run.has_worked and run.run_id != run_id)
    status, problem = read_monitor(bucket, options.channel)
    frozen = status.calibration if status and status.calibration.state == "frozen" else None
    last_day = last_joined_day(bucket, options.gate_days, now)
    n_rides, n_gate_rides = _count_rides(bucket, options, last_day) if last_day else (0, 0)
    return facts._replace(
        last_run=last.run_id if last else None,
        last_run_began_at=last.started_at if last else None,
        last_day=str(last_day) if last_day else None,
        n_rides=n_rides,
        n_gate_rides=n_gate_rides,
        monitor_problem=problem,
        frozen_reason=(frozen.frozen_reason or frozen.text) if frozen else None,
    )


def read_monitor(bucket: Bucket, channel: str) -> tuple[MonitorStatus | None, str | None]:
    """Return the status of monitoring, and why there is none that helps."""
    try:
        status = load_status(bucket)
    except DamagedStatusError as error:
        return None, str(error)
    if status is None:
        return None, "monitoring has not run yet: without it nothing compares models"
    if status.channel != channel:
        return None, f"monitoring looks at {status.channel}, and not at {channel}"
    return status, None


def has_performance_alarm(bucket: Bucket, channel: str, model_version: str) -> bool:
    """Return whether the performance alarm of a channel sounds for a version."""
    status, _ = read_monitor(bucket, channel)
    if status is None or status.model_version != model_version:
        return False
    return any(one.group == "performance" and one.state == "alarm" for one in status.groups)


def last_joined_day(bucket: Bucket, n_days: int, now: datetime) -> date | None:
    """Return the last day of New York that is joined to its end, of the last `n_days`; None if there is none."""
    start = summary_key(Hour.of(now - timedelta(days=n_days)))
    hours = [hour for one in bucket.list_objects(FOLDER, start) if (hour := hour_of_key(one.key))]
    return day_of(max(hours) + 1) - timedelta(days=1) if hours else None


def _read_champion(bucket: Bucket, channel: str) -> Facts:
    if problem := _problem_of(bucket, channel):
        return Facts(channel_problem=problem)
    stored = read_channel(bucket, channel)
    if stored.state is None:
        return Facts()
    if stored.state.segments[0].candidate:
        problem = f"{channel} is split between two versions: end the split first, with `ridecast experiments stop`"
        return Facts(channel_problem=problem)
    return Facts(champion=stored.model_version, champion_since=_serves_since(stored.state))


def _problem_of(bucket: Bucket, channel: str) -> str | None:
    """Return why a channel can't be moved; None if it can."""
    try:
        stored = read_channel(bucket, channel)
    except DamagedChannelError as error:
        return str(error)
    return str(LostChannelError(bucket, channel)) if is_lost(bucket, stored) else None


def _serves_since(state: Channel) -> datetime | None:
    """Return since when a channel's newest model serves without a break; None if it always has."""
    begun = BEGINNING
    for segment in state.segments:
        if segment.model_version != state.model_version:
            break
        begun = segment.effective_from
    return None if begun == BEGINNING else aware_time(begun)


def _count_rides(bucket: Bucket, options: LoopOptions, last_day: date) -> tuple[int, int]:
    """Count labelled rides of the training days, from the last one back until there are enough, and the gate's."""
    n_rides = n_gate_rides = 0
    for n_days_before in range(options.training_days):
        is_gate_day = n_days_before < options.gate_days
        if n_rides >= options.min_rides and not is_gate_day:
            break
        n_rides += _n_labelled(bucket, last_day - timedelta(days=n_days_before))
        n_gate_rides = n_rides if is_gate_day else n_gate_rides
    return n_rides, n_gate_rides


def _n_labelled(bucket: Bucket, day: date) -> int:
    return sum(bucket.each(lambda hour: _n_labelled_of_hour(bucket, hour), hours_of_day(day)))


def _n_labelled_of_hour(bucket: Bucket, hour: Hour) -> int:
    try:
        summary = load_summary(bucket, hour)
    except DamagedSummaryError:
        return 0
    return summary.n_labelled if summary else 0
