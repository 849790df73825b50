"""Read the models of a bucket as values: all in a list, one with its artifacts, two side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple, TypeVar

import msgspec

from lambda_function.core.bundle import Manifest
from lambda_function.core.channel import N_BUCKETS, Channel, Segment
from lambda_function.errors import BundleError
from training.errors import BucketError
from training.model.results import EVALUATION, Evaluation, decode_evaluation
from training.registry.bucket import Bucket
from training.registry.segments import target_of
from training.registry.versions import list_artifacts, read_channels, read_file, read_manifest, stored_times

MIN_SLICE_RIDES = 100
"""Slices of fewer rides are not compared: their errors are noise."""

T = TypeVar("T")


class Served(NamedTuple):
    """The segments of a model in a row: a channel, the first, the one after the last (None if that is the newest).

    `n_calibrations` of the segments have a calibration, the last one that of the hour `as_of`. `share` is that of the
    rides in the last one. The segments before a split's candidate was promoted are a row of their own.
    """

    channel: str
    segment: Segment
    next: Segment | None
    n_calibrations: int
    as_of: str | None
    share: float = 1.0
    is_candidate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A stored version."""

    model_version: str
    manifest: Manifest | None  # None if it cannot be read; `problem` is then the reason
    segments: tuple[Served, ...]  # where it serves, in each channel the newest first
    stored_at: datetime | None  # None if the listing has no time
    problem: str = ""

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels whose newest version it is; that of a split is the champion."""
        return tuple(one.channel for one in self.segments if one.next is None and not one.is_candidate)

    def metric(self, name: str, of: str = "validate") -> float | None:
        """Return one figure of the manifest; None if it has no such figure."""
        figures = self.manifest.metrics.get(of) if self.manifest else None
        value = figures.get(name) if isinstance(figures, Mapping) else None
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """A stored version with the names of its artifacts, its evaluation, and the gate's reports by channel."""

    model: Model
    manifest: Manifest
    evaluation: Evaluation | None
    verdicts: dict[str, Any]
    artifacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """One fact of two models."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class SlicePair:
    """The RMSE of two models, in minutes, on one slice of the validation rides."""

    by: str
    name: str
    n_rides: int
    a_rmse_minutes: float
    b_rmse_minutes: float

    @property
    def off_minutes(self) -> float:
        """How much greater B's RMSE is: above 0 if A is better."""
        return self.b_rmse_minutes - self.a_rmse_minutes


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models side by side."""

    a: str
    b: str
    is_same_validation: bool
    facts: tuple[Pair, ...]  # months, parameters and software that differ
    metrics: tuple[Pair, ...]  # all figures of the manifests, by path
    slices: tuple[SlicePair, ...]  # the greatest difference first; none if the months differ or a model has none


def list_models(bucket: Bucket) -> list[Model]:
    """Read the manifests of all versions; a version that cannot be read is in the list with its problem."""
    times, channels = stored_times(bucket), read_channels(bucket)
    return [_model(bucket, version, times[version], channels) for version in sorted(times)]


def read_details(bucket: Bucket, model_version: str) -> ModelDetails:
    """Read a version with its artifacts.

    Raises:
        BundleError: One of its files does not decode.
        NoSuchVersionError: The bucket holds no such version.
    """
    manifest = read_manifest(bucket, model_version)
    stored_at = stored_times(bucket).get(model_version)
    segments = _segments(read_channels(bucket), model_version)
    model = Model(model_version=model_version, manifest=manifest, segments=segments, stored_at=stored_at)
    names = list_artifacts(bucket, manifest)
    verdicts = {
        name.removeprefix("gate-").removesuffix(".json"): _read(bucket, model_version, name, msgspec.json.decode)
        for name in names
        if name.startswith("gate-") and name.endswith(".json")
    }
    return ModelDetails(model, manifest, _evaluation(bucket, manifest), verdicts, names)


def compare(a: ModelDetails, b: ModelDetails) -> Comparison:
    """Put two models side by side."""
    facts_a, facts_b = _facts(a.manifest), _facts(b.manifest)
    metrics_a, metrics_b = dict(leaves(a.manifest.metrics)), dict(leaves(b.manifest.metrics))
    return Comparison(
        a=a.model.model_version,
        b=b.model.model_version,
        is_same_validation=a.manifest.validate_months == b.manifest.validate_months,
        facts=tuple(pair for pair in _pairs(facts_a, facts_b) if pair.a != pair.b),
        metrics=tuple(_pairs(metrics_a, metrics_b)),
        slices=_slice_pairs(a.evaluation, b.evaluation),
    )


def _model(bucket: Bucket, version: str, stored_at: datetime | None, channels: Mapping[str, Channel]) -> Model:
    manifest, problem = None, ""
    try:
        manifest = read_manifest(bucket, version)
    except (BundleError, BucketError) as error:
        problem = str(error)
    segments = _segments(channels, version)
    return Model(model_version=version, manifest=manifest, segments=segments, stored_at=stored_at, problem=problem)


def _segments(channels: Mapping[str, Channel], version: str) -> tuple[Served, ...]:
    return tuple(
        _served(name, run, newer[-1] if newer else None, version)
        for name, channel in sorted(channels.items())
        for newer, run in pairwise(((), *_runs(channel.segments, version)))
        if _arm_number(run[0], version) is not None
    )


def _runs(segments: Sequence[Segment], version: str) -> list[tuple[Segment, ...]]:
    """Return segments by whether a version is the champion, the candidate of a split, or neither."""
    return [tuple(run) for _, run in groupby(segments, key=partial(_arm_number, version=version))]


def _arm_number(segment: Segment, version: str) -> int | None:
    return next((number for number, arm in enumerate(segment.arms) if arm.model_version == version), None)


def _served(channel: str, run: tuple[Segment, ...], following: Segment | None, version: str) -> Served:
    held = [one.calibration for segment in run if (one := target_of(segment, version))]
    number = _arm_number(run[0], version) or 0
    first, end = run[0].arms[number].buckets
    return Served(
        channel,
        run[-1],
        following,
        n_calibrations=sum(one is not None for one in held),
        as_of=held[0].as_of if held[0] else None,
        share=(end - first) / N_BUCKETS,
        is_candidate=number > 0,
    )


def _evaluation(bucket: Bucket, manifest: Manifest) -> Evaluation | None:
    if EVALUATION not in manifest.files:
        return None
    return _read(bucket, manifest.model_version, EVALUATION, decode_evaluation)


def _read(bucket: Bucket, model_version: str, name: str, decode: Callable[[bytes], T]) -> T:
    data = read_file(bucket, model_version, name)
    if data is None:
        raise BundleError(model_version, name, "is missing")
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(model_version, name, f"does not decode: {error}") from error


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "service": manifest.service,
        "train_months": list(manifest.train_months),
        "validate_months": list(manifest.validate_months),
        "rides learnt from": sum(part.n_kept for part in manifest.data),
        **{f"data.{part.month}": f"{part.file} {part.sha256[:12]}" for part in manifest.data},
        **{f"parameters.{name}": value for name, value in manifest.parameters.items()},
        **{f"software.{name}": value for name, value in manifest.software.items()},
    }


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings with their dotted paths."""
    if not isinstance(node, Mapping):
        yield path, node
        return
    for name, value in node.items():
        yield from leaves(value, f"{path}.{name}" if path else str(name))


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Pair]:
    for name in [*a, *(name for name in b if name not in a)]:
        yield Pair(name, a.get(name), b.get(name))


def _slice_pairs(a: Evaluation | None, b: Evaluation | None) -> tuple[SlicePair, ...]:
    if a is None or b is None or a.validate.months != b.validate.months:
        return ()
    others = {(one.by, one.name): one.model for one in b.validate.slices}
    pairs = [
        SlicePair(one.by, one.name, one.model.n_rides, one.model.rmse_minutes, others[one.by, one.name].rmse_minutes)
        for one in a.validate.slices
        if (one.by, one.name) in others and one.model.n_rides >= MIN_SLICE_RIDES
    ]
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.off_minutes)))
