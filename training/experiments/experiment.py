"""An experiment: candidates beside a champion on live rides, `experiments/<name>.json`, and its verdicts.

What is compared is pinned at the start: the versions, how they are calibrated, the rules of the verdict. Days are only
ever appended. Writes are conditional on the object that was read, so of two writers one takes up the other's work.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Literal, NamedTuple

import msgspec

from lambda_function.core.versions import Version
from training.errors import BucketError, UserError
from training.experiments.verdict import (
    ArmLosses,
    DayLosses,
    Look,
    Rules,
    Verdict,
    as_if_paired,
    judge,
    judge_split,
    looks,
)
from training.monitoring.calibration.status import CalibrationMode
from training.registry.bucket import Bucket

FOLDER = "experiments/"
EXPERIMENT_FORMAT = 1

Mode = Literal["shadow", "split"]
"""How candidates get their rides: all of them after the fact, or a share of them as they are served."""

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,99}\Z")]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_FIRST_YEAR = 2000
_N_TRIES = 5


class Loss(msgspec.Struct, frozen=True):
    """The errors of a version on the rides that count.

    Attributes:
        n_rides: Rides with an outcome of 1 to 60 minutes.
        sum_squared_error: In square minutes.
    """

    n_rides: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    sum_squared_error: Annotated[float, msgspec.Meta(ge=0, le=1e16)]


class HourLosses(msgspec.Struct, frozen=True, omit_defaults=True):
    """The losses of an hour, the champion's first; the hour's day is not complete yet.

    Attributes:
        share: The candidate's share of the rides in a split. Without it the hour was not split as a whole, or not with
            one share, and has no losses.
    """

    hour: str
    losses: tuple[Loss, ...]
    share: Share | None = None


class ExperimentDay(msgspec.Struct, frozen=True, omit_defaults=True):
    """The losses of a day of New York, by arrival, the champion's first. It never changes.

    Attributes:
        missing_hours: Hours that were not joined two days after the day's end, or whose labelled rides are damaged.
        share: The candidate's share of the rides in a split. Without it the share has grown on the day, and the day
            does not count: the arms have rides of other hours.
    """

    day: date
    losses: tuple[Loss, ...]
    missing_hours: tuple[str, ...] = ()
    share: Share | None = None


class Stopped(msgspec.Struct, frozen=True):
    """Who stopped an experiment. `at` is ISO 8601 in UTC."""

    at: str
    by: str
    why: str


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as it is stored.

    Attributes:
        champion: The model version that candidates are compared with.
        calibration_mode: How often each version is calibrated when it is scored.
        share: Of the rides that the candidate of a split was given last; None for a shadow.
        salt: Of the buckets of a split; "" for a shadow.
        started_at: ISO 8601 in UTC.
        first_day: The first day that counts: it began after the start, and after the rides that a version has learned
            from.
        days: In a row from the first day on.
        so_far: Hours of later days, ascending.
        announced: The answer that was announced, by candidate.
    """

    format: int = EXPERIMENT_FORMAT
    name: Name
    mode: Mode
    channel: str
    champion: Version
    candidates: tuple[Version, ...]
    calibration_mode: CalibrationMode
    rules: Rules
    share: Share | None = None
    salt: str = ""
    started_at: str
    started_by: str
    first_day: date
    days: tuple[ExperimentDay, ...] = ()
    so_far: tuple[HourLosses, ...] = ()
    stopped: Stopped | None = None
    announced: dict[str, str] = {}

    @property
    def versions(self) -> tuple[str, ...]:
        """The champion and the candidates, in the order of the losses."""
        return (self.champion, *self.candidates)

    @property
    def is_running(self) -> bool:
        """Whether days are still added: nobody has stopped it, and a candidate has no answer yet."""
        return self.stopped is None and any(verdict_of(self, one).answer == "running" for one in self.candidates)


class StoredExperiment(NamedTuple):
    """An experiment as it was read, and its ETag."""

    experiment: Experiment
    etag: str


class DamagedExperimentError(BucketError):
    """An object that is no experiment, or that a later version of ridecast wrote."""


class _Stored(msgspec.Struct):
    format: int


_decode_format = msgspec.json.Decoder(_Stored).decode
_decode = msgspec.json.Decoder(Experiment).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def experiment_key(name: str) -> str:
    """Return the key of an experiment.

    >>> experiment_key("new-zones")
    'experiments/new-zones.json'
    """
    return f"{FOLDER}{name}.json"


def encode_experiment(experiment: Experiment) -> bytes:
    """Encode an experiment as JSON with its keys sorted."""
    return _encode(experiment) + b"\n"


def decode_experiment(bucket: Bucket, key: str, body: bytes) -> Experiment:
    """Decode an experiment's object.

    Raises:
        DamagedExperimentError: It is none, or a later version of ridecast wrote it.
    """
    try:
        found = _decode_format(body).format
        if found <= EXPERIMENT_FORMAT:
            return _checked(_decode(body), key)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError, UserError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        problem = f"is no experiment ({reason}): delete it, and start the experiment again with another name"
        raise DamagedExperimentError(bucket.name, key, problem) from error
    problem = f"has format {found}, and this version of ridecast reads {EXPERIMENT_FORMAT}: use a newer one"
    raise DamagedExperimentError(bucket.name, key, problem)


def _checked(experiment: Experiment, key: str) -> Experiment:
    """Return an experiment, after a check of what the types do not say.

    Raises:
        ValueError: A part contradicts another.
    """
    if experiment_key(experiment.name) != key:
        raise ValueError(f"it is the experiment {experiment.name}")
    losses = [*(one.losses for one in experiment.days), *(one.losses for one in experiment.so_far)]
    if any(len(one) != len(experiment.versions) for one in losses):
        raise ValueError("a day has losses of other versions")
    days = [one.day.toordinal() for one in experiment.days]
    if days != list(range(experiment.first_day.toordinal(), experiment.first_day.toordinal() + len(days))):
        raise ValueError("its days are not in a row")
    if (experiment.mode == "split") != (experiment.share is not None) or not experiment.candidates:
        raise ValueError("a split has a share and a shadow has none")
    if experiment.mode == "split" and len(experiment.candidates) > 1:
        raise ValueError("a split has one candidate")
    if experiment.first_day.year < _FIRST_YEAR:  # hours of weeks before it are looked at
        raise ValueError(f"its first day is {experiment.first_day}")
    experiment.first_day + timedelta(days=experiment.rules.budget_days)
    return experiment


def read_stored_experiment(bucket: Bucket, name: str) -> StoredExperiment | None:
    """Read an experiment and what is needed to replace it; None if there is none.

    Raises:
        DamagedExperimentError: The object is none.
        BucketError: S3 fails.
    """
    if not NAME.fullmatch(name):
        return None
    key = experiment_key(name)
    stored = bucket.read(key)
    return StoredExperiment(decode_experiment(bucket, key, stored.body), stored.etag) if stored else None


def read_experiment(bucket: Bucket, name: str) -> Experiment | None:
    """Return an experiment; None if there is none. It raises what `read_stored_experiment` does."""
    stored = read_stored_experiment(bucket, name)
    return stored.experiment if stored else None


def experiment_names(bucket: Bucket) -> tuple[str, ...]:
    """List the names of all experiments, damaged ones too. Keys that no experiment has are passed over.

    Raises:
        BucketError: S3 fails.
    """
    names = (key.removeprefix(FOLDER).removesuffix(".json") for key in bucket.keys(FOLDER) if key.endswith(".json"))
    return tuple(name for name in names if NAME.fullmatch(name))


def experiments(bucket: Bucket) -> tuple[Experiment, ...]:
    """Return all experiments, in the order of their start.

    Raises:
        DamagedExperimentError: An object is none.
        BucketError: S3 fails.
    """
    found = bucket.each(lambda name: read_experiment(bucket, name), experiment_names(bucket))
    return tuple(sorted(filter(None, found), key=lambda one: (one.started_at, one.name)))


def change_experiment(bucket: Bucket, name: str, change: Callable[[Experiment], Experiment]) -> Experiment:
    """Store what a function makes of an experiment, and return it; read it again if somebody else has written it.

    Raises:
        UserError: There is no such experiment.
        BucketError: S3 fails, the object is no experiment, or others go on writing it.
    """
    for _ in range(_N_TRIES):
        stored = read_stored_experiment(bucket, name)
        if stored is None:
            raise UserError(f"there is no experiment {name!r}", "`ridecast experiments status` lists them")
        changed = change(stored.experiment)
        if changed == stored.experiment or save_experiment(bucket, changed, stored.etag):
            return changed
    raise BucketError(bucket.name, experiment_key(name), "is being written by somebody else: try again")


def save_experiment(bucket: Bucket, experiment: Experiment, etag: str) -> str | None:
    """Store an experiment if nobody else has since it was read; return its ETag, None if somebody has.

    Raises:
        BucketError: S3 fails.
    """
    return bucket.replace(experiment_key(experiment.name), encode_experiment(experiment), etag)


def verdict_of(experiment: Experiment, candidate: str) -> Verdict:
    """Return what an experiment says about a candidate until now.

    Raises:
        ValueError: It is no candidate of the experiment.
    """
    if experiment.mode == "split" and candidate in experiment.candidates:
        days = experiment.days
        return judge_split(tuple(map(_arms, days)), [one.share for one in days], experiment.rules)
    return judge(paired_days(experiment, candidate), experiment.rules)


def looks_of(experiment: Experiment, candidate: str) -> tuple[Look, ...]:
    """Return what each day said about a candidate when it was the last, in order.

    Raises:
        ValueError: It is no candidate of the experiment.
    """
    days = paired_days(experiment, candidate)
    if experiment.mode == "split":
        days = tuple(as_if_paired(_arms(one)) for one in experiment.days)
    return looks(days, experiment.rules)


def answers_of(experiment: Experiment) -> dict[str, Verdict]:
    """Return the verdicts that are answers, by candidate."""
    verdicts = {candidate: verdict_of(experiment, candidate) for candidate in experiment.candidates}
    return {candidate: verdict for candidate, verdict in verdicts.items() if verdict.answer != "running"}


def paired_days(experiment: Experiment, candidate: str) -> tuple[DayLosses, ...]:
    """Return the losses by day of the champion and a candidate of a shadow, on the same rides.

    Raises:
        ValueError: It is no candidate of the experiment.
    """
    place = experiment.versions.index(candidate, 1)
    return tuple(
        DayLosses(one.day, one.losses[0].n_rides, one.losses[0].sum_squared_error, one.losses[place].sum_squared_error)
        for one in experiment.days
    )


def _arms(one: ExperimentDay) -> ArmLosses:
    """Return the losses of the arms of a day; none if their shares have changed on it."""
    champion, candidate = one.losses if one.share is not None else (Loss(0, 0.0), Loss(0, 0.0))
    return ArmLosses(
        one.day, champion.n_rides, champion.sum_squared_error, candidate.n_rides, candidate.sum_squared_error
    )
