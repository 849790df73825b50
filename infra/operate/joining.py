"""Which hours a person joins, in which pass, and what the audits of several hours add up to."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from lambda_function.core.archive_lines import PREFIX
from lambda_function.core.records import RIDES
from training.errors import UserError
from training.monitoring.hours import EARLY, Due, Hour, horizon, hour_of_key, hours_between, pass_of
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket

FAULTS = ("n_lost", "n_conflicting", "n_skewed")
"""The counts of an audit that must be 0."""

COUNTS = (
    "n_ride_events",
    "n_labelled",
    "n_without_outcome",
    "n_rejected",
    "n_failed",
    "n_waiting",
    *FAULTS,
    "n_recomputed",
    "n_unrecomputed",
    "n_contradicting",
    "n_outcomes",
    "n_outcomes_rejected",
    "n_outcomes_unmatched",
)
"""The counts that are added up over hours."""


def hours_to_judge(begin: datetime, end: datetime | None, now: datetime, delay_minutes: int) -> list[Hour]:
    """Return the hours that begin between two times, and not after now; without an end, those whose horizon has passed.

    The first hour is the one that holds `begin`.
    """
    hours = list(hours_between(Hour.of(begin), min(end or now, now)))
    return hours if end else [hour for hour in hours if horizon(hour, delay_minutes) <= now]


def passes(hours: Iterable[Hour], now: datetime, delay_minutes: int, *, may_be_early: bool) -> list[Due]:
    """Return hours with the pass that each is in.

    Raises:
        UserError: The horizon of an hour has not passed, and it may not be judged early.
    """
    due = [Due(hour, pass_of(hour, now, delay_minutes)) for hour in hours]
    early = next((one.hour for one in due if one.pass_number == EARLY), None)
    if early and not may_be_early:
        shorter = f"end with --to {early}, or " if early != due[0].hour else ""
        raise UserError(
            f"outcomes of {early} are waited for until {horizon(early, delay_minutes):%Y-%m-%dT%H:%MZ}",
            f"{shorter}give --now to judge it early",
        )
    return due


def totals(summaries: Sequence[HourSummary]) -> dict[str, int]:
    """Return the sums of COUNTS, and the number of damaged objects of the archive."""
    sums = {name: sum(getattr(one, name) for one in summaries) for name in COUNTS}
    return {**sums, "n_damaged_objects": len({damaged.key for one in summaries for damaged in one.damaged_objects})}


def first_archived_hour(bucket: Bucket) -> Hour | None:
    """Return the first hour in which ride events of the archive arrived; None without any."""
    return next(filter(None, map(hour_of_key, bucket.keys(f"{PREFIX}/{RIDES}/"))), None)


def hour_spans(hours: Sequence[Hour]) -> list[str]:
    """Return ascending hours as texts, those that follow each other as one.

    >>> hour_spans([Hour.parse(f"2026-08-01T{hour}") for hour in ("09", "10", "11", "14")])
    ['2026-08-01T09 to 2026-08-01T11', '2026-08-01T14']
    """
    known = set(hours)
    begins = [hour for hour in hours if hour + -1 not in known]
    ends = [hour for hour in hours if hour + 1 not in known]
    return [str(one) if one == last else f"{one} to {last}" for one, last in zip(begins, ends, strict=True)]


def archived_hours(bucket: Bucket) -> list[Hour]:
    """Return the hours in which ride events of the archive arrived, the oldest first."""
    hours = {hour_of_key(key) for key in bucket.keys(f"{PREFIX}/{RIDES}/")}
    return sorted(hour for hour in hours if hour)
