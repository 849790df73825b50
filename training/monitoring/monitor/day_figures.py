"""The figures of a day for a model: those of its hours added up, and its errors by hour.

A monitored day is a calendar day of New York by the arrival of ride events: 23, 24 or 25 whole hours of UTC. A
producer's clock moves no ride to another day. Days are stored in order, each once, when all of its hours are joined. If
hours are missing two days after its end, the day is stored without them and names them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import msgspec
import numpy as np

from training.monitoring.hours import Hour
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.figures import Figures, HourFigures, RawAndServed, decode_stored, merge
from training.monitoring.monitor.quantities import DATA_QUANTITIES, day_kinds
from training.monitoring.summary import Sums
from training.registry.bucket import Bucket

DAY_FORMAT = 1
FOLDER = "monitor/days/"

_ONE_DAY = timedelta(days=1)


class HourErrors(msgspec.Struct, frozen=True):
    """The errors of the judged rides of an hour, for display."""

    hour: str
    errors: RawAndServed


class DayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a day for a model.

    Attributes:
        day: New York's.
        hours: Errors by hour of arrival (UTC), ascending.
        missing_hours: Hours that were not joined two days after the day's end, or whose labelled rides are damaged.
    """

    format: int = DAY_FORMAT
    day: date
    model_version: str
    hours: tuple[HourErrors, ...] = ()
    missing_hours: tuple[str, ...] = ()
    figures: Figures = Figures()


def day_figures(
    day: date, model_version: str, hours: Iterable[HourFigures], missing_hours: Iterable[Hour] = ()
) -> DayFigures:
    """Add up the hours of a day, in any order."""
    ordered = sorted(hours, key=lambda one: one.hour)
    return DayFigures(
        day=day,
        model_version=model_version,
        hours=tuple(HourErrors(one.hour, one.figures.errors) for one in ordered),
        missing_hours=tuple(sorted(map(str, missing_hours))),
        figures=merge(one.figures for one in ordered),
    )


def is_testable(one: DayFigures, edges: Mapping[str, np.ndarray]) -> bool:
    """Return whether the detectors may judge a day: no hour is missing, and its rides are counted in these bins.

    A day without its evening differs from whole days, although nothing has changed.
    """
    return not one.missing_hours and is_counted(one, edges)


def is_counted(one: DayFigures, edges: Mapping[str, np.ndarray]) -> bool:
    """Return whether all judged rides of a day are counted in these bins.

    Those of hours that a run added while it could not read the reference are not.
    """
    wanted = {name: (len(ends) + 2, one.figures.n_judged) for name, ends in edges.items()}
    return wanted == {name: (len(counts), sum(counts)) for name, counts in one.figures.counts.items()}


def to_days(figures: Sequence[DayFigures], edges: Mapping[str, np.ndarray]) -> Days:
    """Return days as the detectors read them; the errors are raw.

    Args:
        figures: Days that are testable.
        edges: The bins of the model's reference.
    """
    raw = [one.figures.errors.raw for one in figures]
    day = np.array([one.day for one in figures], "datetime64[D]")
    n = _column(raw, "n")
    n_with_interval = _column(raw, "n_with_interval")
    mean, mean_square = (_column(raw, name) / np.maximum(n, 1) for name in ("sum_error", "sum_squared_error"))
    mean_fourth = _column(raw, "sum_fourth_power") / np.maximum(n, 1)
    return Days(
        day=day,
        kind=day_kinds(day),
        counts={
            name: np.array([one.figures.counts[name] for one in figures], np.float64).reshape(
                len(figures), len(edges[name]) + 2
            )
            for name in DATA_QUANTITIES
        },
        n=n,
        sum_error=_column(raw, "sum_error"),
        sum_squared_error=_column(raw, "sum_squared_error"),
        n_within=np.where(n_with_interval > 0, _column(raw, "n_within_interval"), np.nan),
        n_with_interval=n_with_interval,
        var_error=np.maximum(mean_square - mean * mean, 0.0),
        var_squared_error=np.maximum(mean_fourth - mean_square * mean_square, 0.0),
    )


def _column(sums: Sequence[Sums], name: str) -> np.ndarray:
    return np.array([getattr(one, name) for one in sums], np.float64)


# -- in the bucket


_decode = msgspec.json.Decoder(DayFigures).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def day_key(model_version: str, day: date) -> str:
    """Return the key of a day's figures for a model.

    >>> day_key("green-2021-01-3f2a9c1d0b7e", date(2026, 8, 1))
    'monitor/days/green-2021-01-3f2a9c1d0b7e/2026-08-01.json'
    """
    return f"{FOLDER}{model_version}/{day}.json"


def encode_day(figures: DayFigures) -> bytes:
    """Encode a day's figures as JSON with its keys sorted."""
    return _encode(figures) + b"\n"


def stored_days(bucket: Bucket, model_version: str, first: date | None = None) -> list[date]:
    """List the days with figures for a model, ascending; with `first`, from that day on. Other keys are passed over."""
    prefix = f"{FOLDER}{model_version}/"
    before = day_key(model_version, first - _ONE_DAY) if first else ""
    return [day for one in bucket.list_objects(prefix, before) if (day := day_of_key(one.key))]


def day_of_key(key: str) -> date | None:
    """Return the day in the key of a day's object; None if it is another object's.

    >>> day_of_key("monitor/days/green-2021-01-3f2a9c1d0b7e/2026-08-01.json"), day_of_key("2026-08-01.json.bak")
    (datetime.date(2026, 8, 1), None)
    """
    try:
        return date.fromisoformat(key.rpartition("/")[2].removesuffix(".json"))
    except ValueError:
        return None


def load_days(bucket: Bucket, model_version: str, days: Iterable[date]) -> list[DayFigures]:
    """Return days' figures for a model, in the order of `days`; a day that is not stored is left out.

    Raises:
        BucketError: S3 fails, or an object has another form.
    """
    keys = (day_key(model_version, day) for day in days)
    return [decode_stored(bucket, one.key, one.body, _decode, DAY_FORMAT) for one in bucket.read_all(keys)]
