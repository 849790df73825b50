"""What intervals add to the whole handler: bounds, JSON, and the bytes that are published for them."""

from tests.bench.figures import US, Figure
from tests.bench.stand_ins import fast_kinesis
from tests.bench.subjects import Subject, ours
from tests.bench.timing import extra_cpu_us_per_ride

REPEATS = 41
"""More than elsewhere: a small difference of two large times."""


def bench_intervals(subject: Subject) -> list[Figure]:
    """Times ours on the largest batch, in turns with the same model that has no intervals."""
    event = subject.event
    n_rides = len(event["Records"])
    plain, extended = (ours(bundle, fast_kinesis()) for bundle in (subject.bundle, subject.with_intervals))
    extra_us = extra_cpu_us_per_ride(lambda: plain(event), lambda: extended(event), n_rides, REPEATS)
    return [Figure(f"handler: intervals, added to a batch of {n_rides:,}", extra_us, US, 0.3)]
