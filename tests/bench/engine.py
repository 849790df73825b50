"""The trees alone, beside scikit-learn's own predict."""

from tests.bench.figures import TIMES, US, Figure
from tests.bench.subjects import Subject
from tests.bench.timing import cpu_us_per_ride


def bench_engine(subject: Subject) -> list[Figure]:
    """Times the engine in large batches and one ride at a time."""
    forest, fitted, matrix = subject.bundle.model.forest, subject.fitted, subject.matrix
    one = matrix[:1]
    us = cpu_us_per_ride(
        {
            "engine": (lambda: forest.predict(matrix), len(matrix)),
            "scikit-learn": (lambda: fitted.predict(matrix), len(matrix)),
            "engine, one": (lambda: [forest.predict(one) for _ in range(100)], 100),
            "scikit-learn, one": (lambda: [fitted.predict(one) for _ in range(10)], 10),
        }
    )
    return [
        Figure(f"engine: {forest.n_trees} trees, batch of {len(matrix):,}", us["engine"], US, 2.2),
        Figure("engine: the same by scikit-learn", us["scikit-learn"], US),
        Figure("engine: faster than scikit-learn", us["scikit-learn"] / us["engine"], TIMES, 4.0),
        Figure("engine: batch of one", us["engine, one"], US),
        Figure("engine: batch of one by scikit-learn", us["scikit-learn, one"], US),
    ]
