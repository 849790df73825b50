"""What intervals add to the whole handler: bounds, JSON, and the bytes that are published for them."""

from infra.bench.figures import US, Figure
from infra.bench.stand_ins import fast_kinesis
from infra.bench.subjects import Subject, ours
from infra.bench.timing import cpu_us_per_ride

REPEATS = 41
"""More than elsewhere: a difference of two times is as blurred as both together."""


def bench_intervals(subject: Subject) -> list[Figure]:
    """Times ours on the largest batch, in turns with the same model that has no intervals."""
    event = subject.event
    without, with_intervals = (ours(one, fast_kinesis()) for one in (subject.bundle, subject.with_intervals))
    n_rides = len(event["Records"])
    us = cpu_us_per_ride(
        {"without": (lambda: without(event), n_rides), "with": (lambda: with_intervals(event), n_rides)}, REPEATS
    )
    return [Figure(f"handler: intervals, batch of {n_rides:,}", us["with"] - us["without"], US, 0.3)]
