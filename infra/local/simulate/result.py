"""The result of a simulation: what `ridecast simulate --json` prints."""

import msgspec

from infra.local.simulate.measure import Figures
from infra.local.simulate.stack import Events, is_alarm
from infra.local.simulation.simulation import CHANNEL
from infra.operate.joining import totals
from training.monitoring.hours import hour_of_key
from training.monitoring.summary import FOLDER, load_summary
from training.registry.bucket import Bucket
from training.registry.channel_history import read_moves
from training.workflows.loop.state import read_runs


class Audit(msgspec.Struct, frozen=True):
    """The sums of all joins' audits. `n_lost`, `n_conflicting` and `n_skewed` must be 0."""

    n_hours: int
    n_ride_events: int
    n_labelled: int
    n_without_outcome: int
    n_lost: int
    n_conflicting: int
    n_skewed: int

    @property
    def is_sound(self) -> bool:
        """Whether the audit found nothing."""
        return not (self.n_lost or self.n_conflicting or self.n_skewed)


class Alarm(msgspec.Struct, frozen=True):
    """An alarm of the monitor: `at` is the time of the event, `since` the day since which the evidence has grown."""

    group: str
    at: str
    since: str | None
    model_version: str
    text: str


class Move(msgspec.Struct, frozen=True):
    """A move of the channel, or a run of calibrations of one model, `n_moves` of them from `at` to `until`."""

    at: str
    until: str
    version: str
    why: str
    by: str
    n_moves: int = 1
    withdrawn: str | None = None


class Step(msgspec.Struct, frozen=True):
    """A step of a run of the loop."""

    name: str
    at: str
    outcome: str
    text: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the loop.

    Attributes:
        outcome: How it ended; None if it still goes on.
        text: Why.
    """

    run_id: str
    trigger: str
    reason: str
    started_at: str
    ended_at: str | None
    champion: str | None
    candidate: str | None
    outcome: str | None
    text: str
    steps: tuple[Step, ...]


class SimulationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a simulation. The same options and data give the same result.

    Attributes:
        data: "tlc" or "synthetic".
        rides_a_month: The most rides of a month: of one with more, a sample was simulated.
        first_model: The version that served at the start: the frozen model.
        months: Errors by month; `days` has them by day.
        alarms: In the order of time.
        moves: What the channel served, in the order of time.
        runs: The loop's, in the order of time.
    """

    service: str
    data: str
    train_months: tuple[str, ...]
    rides_a_month: int
    seed: int
    calibration: bool
    retraining: bool
    n_train_rides: int
    n_rides: int
    first_model: str
    audit: Audit
    months: tuple[Figures, ...]
    days: tuple[Figures, ...]
    alarms: tuple[Alarm, ...]
    moves: tuple[Move, ...]
    runs: tuple[Run, ...]


def audit_of(bucket: Bucket) -> Audit:
    """Return the sums over all joined hours."""
    hours = [hour for key in bucket.keys(FOLDER) if (hour := hour_of_key(key))]
    summaries = [summary for hour in hours if (summary := load_summary(bucket, hour))]
    sums = totals(summaries)
    return Audit(len(summaries), *(sums[name] for name in Audit.__struct_fields__[1:]))


def alarms_of(events: Events) -> tuple[Alarm, ...]:
    """Return the alarms among events."""
    return tuple(
        Alarm(
            group=one["group"],
            at=one["event_id"].rpartition("/")[2],
            since=one["since"],
            model_version=one["model_version"],
            text=one["text"],
        )
        for one in events.details
        if is_alarm(one)
    )


def moves_of(bucket: Bucket) -> tuple[Move, ...]:
    """Return the moves of the channel."""
    return tuple(
        Move(
            at=one.first.moved_at or "",
            until=one.last.moved_at or "",
            version=one.last.served_version,
            why=one.first.why or "",
            by=one.first.moved_by or "",
            n_moves=one.n_moves,
            withdrawn=one.first.withdrawn,
        )
        for one in read_moves(bucket, CHANNEL)
    )


def runs_of(bucket: Bucket) -> tuple[Run, ...]:
    """Return the runs of the loop."""
    return tuple(
        Run(
            run_id=one.run_id,
            trigger=one.trigger,
            reason=one.reason,
            started_at=one.started_at.isoformat(),
            ended_at=one.ended_at.isoformat() if one.ended_at else None,
            champion=one.champion,
            candidate=one.candidate,
            outcome=one.end.outcome if one.end else None,
            text=one.end.text if one.end else one.steps[-1].text,
            steps=tuple(Step(step.name, step.at.isoformat(), step.outcome, step.text) for step in one.steps),
        )
        for one in reversed(read_runs(bucket))
    )
