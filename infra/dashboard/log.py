"""A function's log → samples of metrics, as CloudWatch would take them out of it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MILLISECONDS_PER_S = 1000
MAX_GAP_S = 600.0
"""A log is appended to, run after run: silence for longer ends one. Lambda lets no batch wait for longer than 300 s."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric, at a time in Unix seconds."""

    at_s: float
    namespace: str
    metric: str
    value: float
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class VersionUse:
    """What a model version has predicted, and when last, in Unix seconds."""

    n_predictions: int = 0
    last_s: float = 0.0


@dataclass(slots=True)
class FunctionLog:
    """The last run in a log.

    Attributes:
        versions: By model version, in the order in which they came.
        n_batches: Of that run.
        n_earlier: Batches of the runs before it, which are left out.
    """

    samples: list[Sample] = field(default_factory=list)
    versions: dict[str, VersionUse] = field(default_factory=dict)
    n_batches: int = 0
    n_earlier: int = 0

    @property
    def n_predictions(self) -> int:
        """Predictions of that run."""
        return sum(use.n_predictions for use in self.versions.values())

    def add(self, line: Mapping[str, Any], n_bytes: int) -> None:
        """Adds a line of metrics in the embedded format; `n_bytes` of log have come with it, itself included."""
        at_s = line["_aws"]["Timestamp"] / MILLISECONDS_PER_S
        if self.samples and at_s - self.samples[-1].at_s > MAX_GAP_S:
            self._forget()
        samples = list(_samples(line, at_s))
        self.samples += [*samples, Sample(at_s, "AWS/Logs", "IncomingBytes", n_bytes), *_stand_ins(samples)]
        if "model_version" in line:
            self._count_batch(line, at_s)

    def _count_batch(self, line: Mapping[str, Any], at_s: float) -> None:
        self.n_batches += 1
        use = self.versions.setdefault(line["model_version"], VersionUse())
        use.n_predictions += int(sum(line["Predictions"]))
        use.last_s = at_s

    def _forget(self) -> None:
        self.n_earlier += self.n_batches
        self.samples, self.versions, self.n_batches = [], {}, 0


def read_log(lines: Iterable[str]) -> FunctionLog:
    """Reads the last run of a log. What is no line of metrics adds to the bytes and to nothing else.

    >>> read_log(["Traceback (most recent call last):"]).n_batches
    0
    """
    log = FunctionLog()
    n_bytes = 0
    for text in lines:
        n_bytes += len(text.encode())
        line = _metrics_line(text)
        if line:
            log.add(line, n_bytes)
            n_bytes = 0
    return log


def _metrics_line(text: str) -> dict[str, Any] | None:
    if '"CloudWatchMetrics"' not in text:
        return None
    try:
        line = json.loads(text[text.index("{") :])  # `aws logs tail` writes a time and a name before it
    except ValueError:  # cut off: the function was killed while it wrote
        return None
    return line if isinstance(line, dict) and "_aws" in line else None


def _samples(line: Mapping[str, Any], at_s: float) -> Iterator[Sample]:
    for directive in line["_aws"]["CloudWatchMetrics"]:
        dimensions = {name: str(line[name]) for names in directive["Dimensions"] for name in names}
        for metric in directive["Metrics"]:
            values = line[metric["Name"]]
            for value in values if isinstance(values, list) else [values]:
                yield Sample(at_s, directive["Namespace"], metric["Name"], value, dimensions)


def _stand_ins(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Gives what Lambda itself would count of an invocation: it reports once, on its batch or on its failure."""
    for sample in samples:
        if sample.metric in {"Records", "FailedInvocations"}:
            yield Sample(sample.at_s, "AWS/Lambda", "Invocations", 1)
            yield Sample(sample.at_s, "AWS/Lambda", "Errors", int(sample.metric == "FailedInvocations"))
