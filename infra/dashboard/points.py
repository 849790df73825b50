"""Samples → the points of a line: one a bin of time, by CloudWatch's statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.dashboard.body import Series
from infra.dashboard.log import Sample

_LADDER_S = (1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 24 * 3600)
_MAX_BINS = 120  # more points than that are not told apart in a panel

_STATS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "Sum": lambda values: float(values.sum()),
    "Average": lambda values: float(values.mean()),
    "Minimum": lambda values: float(values.min()),
    "Maximum": lambda values: float(values.max()),
    "SampleCount": lambda values: float(len(values)),
}


@dataclass(frozen=True, slots=True)
class Bins:
    """Equal bins of time from `first_s`, Unix seconds, each `bin_s` long."""

    first_s: float
    bin_s: int
    n: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Bins":
        """Chooses bins that hold all samples, of which there is at least one."""
        times = [sample.at_s for sample in samples]
        first_s, last_s = min(times), max(times)
        bin_s = next((one for one in _LADDER_S if (last_s - first_s) / one < _MAX_BINS), _LADDER_S[-1])
        start_s = first_s // bin_s * bin_s
        return cls(start_s, bin_s, int((last_s - start_s) // bin_s) + 1)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(n,) seconds from the first bin to each."""
        return np.arange(self.n, dtype=np.float64) * self.bin_s


def points(samples: Sequence[Sample], series: Series, bins: Bins) -> NDArray[np.float64] | None:
    """Returns a line's (n bins,) values, NaN where a bin has no sample; None if the log has none at all."""
    chosen = [sample for sample in samples if _belongs(sample, series)]
    if not chosen:
        return None
    at = np.array([(sample.at_s - bins.first_s) // bins.bin_s for sample in chosen], dtype=np.intp)
    values = np.array([sample.value for sample in chosen], dtype=np.float64)
    statistic = _statistic(series.stat)
    line = np.full(bins.n, np.nan)
    for place in np.unique(at):
        line[place] = statistic(values[at == place])
    return line


def _statistic(stat: str) -> Callable[[NDArray[np.float64]], float]:
    if stat.startswith("p"):
        percent = float(stat[1:])
        return lambda values: float(np.percentile(values, percent))
    return _STATS[stat]


def _belongs(sample: Sample, series: Series) -> bool:
    """Says whether a sample is of a series. A log is of one stack: what the template refers to is that stack's own."""
    if (sample.namespace, sample.metric) != (series.namespace, series.metric):
        return False
    literal = {name: value for name, value in series.dimensions if "${" not in value}
    return literal.items() <= dict(sample.dimensions).items()
