"""Rides that arrive at an even rate while a stack is deployed, where each of them ended, and their outcomes."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from infra.local.demo.replay import MALFORMED, ride_events
from infra.operate.redrive.selection import REJECTS
from infra.operate.streams import StreamReader, publish
from lambda_function.aws.publisher import Publisher
from lambda_function.core.events import decode_prediction, partition_key
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.records import Entry
from training.data.rides import Rides
from training.registry.bucket import Bucket

_POLL_PERIOD_S = 0.02


class Traffic:
    """Sends rides to one stream, and reads predictions from another and rejects from the bucket.

    Attributes:
        n_sent: Ride events sent so far.
        predicted: Predictions read so far, by ride id.
    """

    def __init__(self, kinesis: Any, s3: Any, outputs: Mapping[str, str]) -> None:
        self.n_sent = 0
        self.predicted: dict[int, int] = {}
        self._kinesis = kinesis
        self._input_stream = outputs["RideEventsStream"]
        self._bucket = Bucket(s3, outputs["BucketName"])
        self._reader = StreamReader(kinesis, outputs["RidePredictionsStream"], "TRIM_HORIZON")
        self._rejected: set[str] = set()
        self._outcome_stream = outputs["RideOutcomesStream"]
        self._outcomes: list[Entry] = []

    @contextmanager
    def sending(self, rides: Rides, rate_per_s: float) -> Iterator[None]:
        """Send rides and one malformed event while the block runs; leave the block when all are sent."""
        entries = self._entries(rides)
        with ThreadPoolExecutor(1, thread_name_prefix="producer") as thread:
            sent = thread.submit(self._send, entries, rate_per_s)
            yield
            sent.result()

    def _entries(self, rides: Rides) -> list[Entry]:
        ids = range(self.n_sent, self.n_sent + len(rides))
        numbered = zip(ids, rides.duration_minutes.tolist(), strict=True)
        self._outcomes += [(partition_key(n), encode_outcome(Outcome(n, minutes))) for n, minutes in numbered]
        entries = [(partition_key(number), event) for number, event in zip(ids, ride_events(rides, ids), strict=True)]
        return [*entries, (f"malformed-{ids.stop}", MALFORMED[0])]

    def _send(self, entries: list[Entry], rate_per_s: float) -> None:
        before = self.n_sent
        for n_published in publish(Publisher(self._kinesis, self._input_stream), entries, rate_per_s=rate_per_s):
            self.n_sent = before + n_published

    def send_outcomes(self) -> None:
        """Send the outcomes of all rides sent so far."""
        for _ in publish(Publisher(self._kinesis, self._outcome_stream), self._outcomes):
            pass

    @property
    def n_rejected(self) -> int:
        """Ride events rejected so far."""
        return len(self._rejected)

    @property
    def n_lost(self) -> int:
        """Ride events sent that are neither predicted nor rejected."""
        return self.n_sent - len(self.predicted) - self.n_rejected

    @property
    def n_repeated(self) -> int:
        """Predictions of a ride that had one: its batch was delivered again."""
        return sum(self.predicted.values()) - len(self.predicted)

    def settle(self, mapping: Future[None], stall_s: float, clock: Any = time.monotonic) -> None:
        """Read until no event is missing, or until nothing new has come for `stall_s`.

        Raises:
            Exception: The error that ended the mapping.
        """
        news_s, n_lost = clock(), self.n_lost
        pause = threading.Event()
        while self.n_lost > 0 and clock() - news_s < stall_s:
            if mapping.done():
                mapping.result()
            self._read()
            if self.n_lost < n_lost:
                news_s, n_lost = clock(), self.n_lost
            pause.wait(_POLL_PERIOD_S)

    def _read(self) -> None:
        for record in self._reader.read_once():
            ride_id = int(decode_prediction(record.data).prediction.ride_id)
            self.predicted[ride_id] = self.predicted.get(ride_id, 0) + 1
        for stored in REJECTS.read(self._bucket, REJECTS.keys(self._bucket)):
            self._rejected.update(record.record_id for record in stored.records)
