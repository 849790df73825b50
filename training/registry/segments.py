"""The segments of a channel's next state: an arm alone, a split, and a model taken out. Pure."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate, pairwise, takewhile
from typing import NamedTuple

from lambda_function.core.channel import MAX_SEGMENTS, N_BUCKETS, Arm, CalibrationRef, Segment

KEPT_DAYS = 366
"""Segments that ended earlier are dropped: no stream retains a record longer than 365 days."""


class Target(NamedTuple):
    """A stored model and the calibration with which it is to serve."""

    model_version: str
    manifest_sha256: str
    calibration: CalibrationRef | None = None


class NextState(NamedTuple):
    """A channel's segments, newest first, and what they are without that may have served.

    Attributes:
        segments: At least one.
        withdrawn: The version that was taken out of segments, and then others that went with it. One without a
            calibration's hour is a model with all its calibrations.
        withdrawn_from: The beginning of the oldest segment that they were taken out of.
    """

    segments: tuple[Segment, ...]
    withdrawn: tuple[str, ...] = ()
    withdrawn_from: str | None = None


def alone(effective_from: str, target: Target) -> Segment:
    """Return a segment in which a model serves every ride."""
    return Segment(effective_from, (Arm(target.model_version, target.manifest_sha256),), target.calibration)


def split(newest: Segment, candidate: Target, n_buckets: int, salt: str) -> Segment:
    """Return a segment with the newest one's champion, and a candidate for the buckets below `n_buckets`."""
    champion = newest.arm
    arms = (
        Arm(
            champion.model_version,
            champion.manifest_sha256,
            (n_buckets, N_BUCKETS),
            newest.calibration_of(champion),
        ),
        Arm(candidate.model_version, candidate.manifest_sha256, (0, n_buckets), candidate.calibration),
    )
    return Segment(newest.effective_from, arms, salt=salt)


def with_calibrations(segment: Segment, references: dict[str, CalibrationRef | None]) -> Segment:
    """Return a segment with other calibrations, by model version; arms that have none there keep theirs."""
    targets = [
        Target(
            arm.model_version,
            arm.manifest_sha256,
            references.get(arm.model_version, segment.calibration_of(arm)),
        )
        for arm in segment.arms
    ]
    champion = alone(segment.effective_from, targets[0])
    if segment.candidate is None:
        return champion
    return split(champion, targets[1], segment.candidate.buckets[1], segment.salt)


def target_of(segment: Segment, model_version: str) -> Target | None:
    """Return a model as a segment has it in one of its arms; None if it has not."""
    for arm in segment.arms:
        if arm.model_version == model_version:
            return Target(arm.model_version, arm.manifest_sha256, segment.calibration_of(arm))
    return None


def take_out(segments: Sequence[Segment], model_version: str, good: Target, since_s: float = -math.inf) -> NextState:
    """Take a model out of the newest segments in a row that have it in an arm.

    A segment in which the good model has an arm keeps that, for all rides. One in which the model is the candidate
    keeps its champion. In the others the good model serves, and what it replaces is one segment from the oldest one's
    beginning: so are kept arms with equal calibrations.

    Args:
        segments: Of a channel, newest first.
        model_version: To be taken out; the newest segment has it.
        good: To serve in its place.
        since_s: Older segments in which the model is the champion stay, in seconds since the epoch: another model has
            come between, and has been rolled back from.
    """
    changed: list[Segment] = []
    withdrawn = {model_version: None}  # in order of appearance
    n_changed = len(list(takewhile(lambda one: _has_run(one, model_version, since_s), segments)))
    for segment in segments[:n_changed]:
        stays = _stays(segment, model_version, good)
        withdrawn.update((arm.model_version, None) for arm in segment.arms if arm.model_version != stays.model_version)
        kept = alone(segment.effective_from, stays)
        if changed and serve_the_same(changed[-1], kept):
            changed.pop()
        changed.append(kept)
    return NextState((*changed, *segments[n_changed:]), tuple(withdrawn), segments[n_changed - 1].effective_from)


def _has_run(segment: Segment, model_version: str, since_s: float) -> bool:
    """Return whether a model serves in a segment, as the champion no earlier than a time."""
    if segment.model_version == model_version:
        return segment.effective_from_s >= since_s
    return target_of(segment, model_version) is not None


def _stays(segment: Segment, bad: str, good: Target) -> Target:
    """Return what serves all rides of a segment once a bad model is out of it."""
    kept = target_of(segment, good.model_version)
    if kept is None and segment.model_version != bad:
        kept = target_of(segment, segment.model_version)
    return kept or good


def trimmed(segments: Sequence[Segment], now: datetime) -> tuple[Segment, ...]:
    """Drop the segments that ended too long ago for any record, and those beyond MAX_SEGMENTS."""
    ended_before_s = (now - timedelta(days=KEPT_DAYS)).timestamp()
    kept = [old for newer, old in pairwise(segments) if newer.effective_from_s >= ended_before_s]
    all_kept = (segments[0], *kept)
    n_arms = accumulate(len(segment.arms) for segment in all_kept)
    return tuple(segment for segment, n in zip(all_kept, n_arms, strict=True) if n <= MAX_SEGMENTS)


def serve_the_same(a: Segment, b: Segment) -> bool:
    """Return whether two segments serve every ride alike."""
    return (a.arms, a.calibration, a.salt) == (b.arms, b.calibration, b.salt)
