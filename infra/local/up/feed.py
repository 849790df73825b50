"""The feed of a local stack: a month's rides at many times real time, with their outcomes when they end."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infra.local.demo.labelling import Display
from infra.local.demo.replay import ride_events
from infra.operate.streams import StreamReader, publish
from lambda_function.aws.publisher import Publisher
from lambda_function.core.events import decode_prediction, partition_key
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.records import Entry
from training.data.load import tlc_months
from training.data.months import Month, Service
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.errors import MonthUnavailableError

BEFORE_S = -1.0
"""A time in a timetable before the first pickup."""

_N_SYNTHETIC_RIDES, _SEED = 60_000, 2023
_TICK_S = 0.25
_SAVE_S = 1.0
_N_RECENT = 1_000
_S_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What is fed: a month's rides, and how many times real time."""

    month: Month
    service: Service = "green"
    speed: float = 60.0

    @property
    def name(self) -> str:
        """The beginning of the rides' ids."""
        return f"{self.service}-{self.month}"


class Timetable:
    """When the events of rides are due, in seconds from the first pickup. Ride i has the id `<name>-<i>`."""

    def __init__(self, name: str, rides: Rides) -> None:
        self._rides = rides
        self._name = name
        pickup_s = rides.pickup_time.astype("M8[s]").astype(np.int64)
        self._pickup_s = pickup_s - (pickup_s[0] if len(pickup_s) else 0)
        end_s = self._pickup_s + rides.duration_minutes * _S_PER_MINUTE
        self._by_end = np.argsort(end_s, kind="stable")
        self._end_s = end_s[self._by_end]

    @property
    def end_s(self) -> float:
        """When the last ride ends."""
        return float(self._end_s[-1]) if len(self._end_s) else 0.0

    def rides(self, after_s: float, until_s: float) -> list[Entry]:
        """Return the ride events that are due after a time, until another one."""
        first, end = np.searchsorted(self._pickup_s, (after_s, until_s), "right").tolist()
        ids = [self._id(number) for number in range(first, end)]
        events = ride_events(self._rides.take(slice(first, end)), ids)
        return [(partition_key(one), event) for one, event in zip(ids, events, strict=True)]

    def outcomes(self, after_s: float, until_s: float) -> list[Entry]:
        """Return the outcomes of the rides that end after a time, until another one."""
        first, end = np.searchsorted(self._end_s, (after_s, until_s), "right").tolist()
        numbers = self._by_end[first:end].tolist()
        minutes = self._rides.duration_minutes
        return [
            (partition_key(self._id(one)), encode_outcome(Outcome(self._id(one), float(minutes[one]))))
            for one in numbers
        ]

    def minutes(self, ride_id: str | int) -> float | None:
        """Return how long a ride takes; None if it is none of these."""
        name, _, number = str(ride_id).rpartition("-")
        if name != self._name or not number.isdecimal() or int(number) >= len(self._rides):
            return None
        return float(self._rides.duration_minutes[int(number)])

    def _id(self, number: int) -> str:
        return f"{self._name}-{number}"


@dataclass(slots=True, kw_only=True)
class Feed:
    """Sends the events of a timetable, and measures the predictions that come.

    Attributes:
        timetable: What is due when.
        speed: Times real time.
        kinesis: A boto3 client.
        streams: Of ride events, outcomes and predictions.
        at_s: The time in the timetable: all after it is still to be sent.
        save: Stores this time.
        monotonic: Returns seconds that never go back.
    """

    timetable: Timetable
    speed: float
    kinesis: Any
    streams: tuple[str, str, str]
    at_s: float
    save: Callable[[float], None]
    monotonic: Callable[[], float] = time.monotonic
    n_rides: int = 0
    n_outcomes: int = 0
    _squares: deque[float] = field(default_factory=lambda: deque(maxlen=_N_RECENT))
    _recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=40))

    @property
    def is_done(self) -> bool:
        """Whether all is sent."""
        return self.at_s >= self.timetable.end_s

    def run(self, stop: threading.Event) -> None:
        """Send what is due until all is sent or `stop` is set."""
        reader = StreamReader(self.kinesis, self.streams[2], "LATEST")
        started_s = last_s = saved_s = self.monotonic()
        while not (stop.is_set() or self.is_done):
            now_s = self.monotonic()
            self.send((now_s - last_s) * self.speed)
            last_s = now_s
            self.measure(record.data for record in reader.read_once())
            self._recent.append((now_s - started_s, self.n_rides))
            if now_s - saved_s >= _SAVE_S:
                self.save(self.at_s)
                saved_s = now_s
            stop.wait(_TICK_S)
        self.save(self.at_s)

    def send(self, seconds: float) -> None:
        """Send what is due in the next seconds of the timetable."""
        until_s = self.at_s + seconds
        rides, outcomes = self.timetable.rides(self.at_s, until_s), self.timetable.outcomes(self.at_s, until_s)
        for stream, entries in zip(self.streams, (rides, outcomes), strict=False):
            for _ in publish(Publisher(self.kinesis, stream), entries):
                pass
        self.n_rides += len(rides)
        self.n_outcomes += len(outcomes)
        self.at_s = until_s

    def measure(self, predictions: Iterable[bytes]) -> None:
        """Add the errors of predictions of rides of the timetable."""
        for line in predictions:
            predicted = decode_prediction(line).prediction
            actual = self.timetable.minutes(predicted.ride_id)
            if actual is not None:
                self._squares.append((predicted.ride_duration - actual) ** 2)

    def figures(self) -> str:
        """Return how it goes: rides sent, rides a second, the error of the last thousand."""
        error = f", RMSE {math.sqrt(sum(self._squares) / len(self._squares)):.2f} min" if self._squares else ""
        return f"sent {self.n_rides:,} rides, {self._rate():.1f} rides/s{error}"

    def _rate(self) -> float:
        recent = list(self._recent)
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:  # noqa: PLR2004 - two points make a rate
            return 0.0
        (first_s, n_first), (last_s, n_last) = recent[0], recent[-1]
        return (n_last - n_first) / (last_s - first_s)


def load_feed_rides(options: FeedOptions, display: Display) -> Rides:
    """Load a month's rides; make rides up if TLC's are not available."""
    display.step(f"loading the rides of {options.month}")
    try:
        return tlc_months(options.service)((options.month,))
    except MonthUnavailableError as error:
        display.warn(f"{error}. The feed uses made-up rides instead: their errors say nothing about New York.")
        return synthetic_rides(options.month, _N_SYNTHETIC_RIDES, _SEED)
