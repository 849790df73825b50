"""Publish whole batches with PutRecords: in chunks, resending only what failed, ending before the deadline."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from botocore.exceptions import ClientError

from lambda_function.aws.clients import NO_USABLE_ANSWER
from lambda_function.core.records import MAX_KEY_BYTES, Entry
from lambda_function.errors import PublishError

MAX_CHUNK_RECORDS = 500
MAX_CHUNK_BYTES = 5 * 1024 * 1024
"""Limits of one PutRecords request; the bytes of keys count too."""

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 2.0

THROTTLING_CODES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "KMSThrottlingException",
        "ThrottlingException",
    }
)
"""Kinesis answers these with status 400."""


class PutRecords(Protocol):
    """The part of a Kinesis client that the publisher uses."""

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> Any:  # noqa: N803
        """Put up to 500 records; a response with status 200 may contain failures."""


@dataclass(frozen=True, slots=True)
class Published:
    """The result of publishing a batch."""

    unpublished: list[int]  # indices of the entries that the stream has not confirmed, ascending
    n_resent: int = 0  # entries that were sent more than once
    last_error: str = ""  # the error of the last entry that failed, or ""
    refusal: PublishError | None = None  # if the stream refused the request itself for good, and took no entry


@dataclass(slots=True)
class Publisher:
    """Publish to one stream. Sleep and randomness are parameters so that tests can replace them."""

    kinesis: PutRecords
    stream_name: str
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[float, float], float] = random.uniform
    _last_error: str = field(default="", init=False)

    def publish(self, entries: Sequence[Entry], time_left_s: Callable[[], float]) -> Published:
        """Send all entries, and resend those that the stream refused, until it has taken all or the time is up.

        Args:
            entries: (partition key, data) each.
            time_left_s: Returns the seconds in which a request may still start; called before each one.

        Returns:
            What was not published: everything that is left, if the stream refuses the request itself (no such stream,
            no permission) or the time is up.
        """
        self._last_error = ""
        waiting = list(range(len(entries)))
        n_resent = 0
        for backoff_s in _backoffs():
            try:
                waiting = self._send_once(entries, waiting, time_left_s)
            except _UnpublishedError as error:
                refusal = self._refusal(error) if len(error.waiting) == len(entries) else None
                return Published(error.waiting, n_resent, self._last_error, refusal)
            if not waiting:
                return Published([], n_resent)
            pause_s = self.jitter(0, backoff_s)
            if pause_s >= time_left_s():
                return Published(waiting, n_resent, self._last_error)
            self.sleep(pause_s)
            n_resent += len(waiting)
        raise AssertionError("backoffs never end")

    def _send_once(self, entries: Sequence[Entry], waiting: list[int], time_left_s: Callable[[], float]) -> list[int]:
        """Send the waiting entries chunk by chunk and return those that failed."""
        failed: list[int] = []
        n_sent = 0
        for chunk in _chunks(entries, waiting):
            if time_left_s() <= 0:
                raise _UnpublishedError(failed + waiting[n_sent:])
            try:
                failed += self._put([entries[index] for index in chunk], chunk)
            except ClientError as error:
                self._last_error = str(error)
                if not may_pass(error):
                    raise _UnpublishedError(failed + waiting[n_sent:]) from error
                failed += chunk
            except NO_USABLE_ANSWER as error:
                self._last_error = str(error)
                failed += chunk
            n_sent += len(chunk)
        return failed

    def _refusal(self, error: Exception) -> PublishError | None:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            return None
        return PublishError(self.stream_name, cause.response["Error"]["Code"], str(cause))

    def _put(self, entries: list[Entry], chunk: Sequence[int]) -> Sequence[int]:
        """Send one chunk and return the indices of the entries that the stream has not confirmed.

        An answer that is cut off or contradicts itself confirms none of them.
        """
        answer = self.kinesis.put_records(
            StreamName=self.stream_name,
            Records=[{"Data": data, "PartitionKey": partition_key} for partition_key, data in entries],
        )
        results: Sequence[dict[str, Any]] = answer.get("Records", ())
        refused = [n for n, one in enumerate(results) if one.get("ErrorCode")] if any(results) else []
        if answer.get("FailedRecordCount") != len(refused) or len(results) != len(entries):
            self._last_error = "PutRecords answered with results that are cut off or contradict each other"
            return chunk
        for n in refused:
            self._last_error = f"{results[n]['ErrorCode']}: {results[n].get('ErrorMessage', '')}"
        return [chunk[n] for n in refused]


class _UnpublishedError(Exception):
    def __init__(self, waiting: list[int]) -> None:
        self.waiting = sorted(waiting)
        super().__init__(f"{len(waiting)} entries left")


def may_pass(error: ClientError) -> bool:
    """Return whether a refused request is worth resending: throttled, or a fault of AWS."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    throttled = error.response["Error"]["Code"] in THROTTLING_CODES
    return throttled or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _backoffs() -> Iterator[float]:
    backoff_s = FIRST_BACKOFF_S
    while True:
        yield backoff_s
        backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)


def _chunks(entries: Sequence[Entry], indices: Sequence[int]) -> Iterator[Sequence[int]]:
    """Split entries into requests within both limits, in order."""
    longest = max((len(entries[index][1]) for index in indices), default=0) + MAX_KEY_BYTES
    if longest * MAX_CHUNK_RECORDS <= MAX_CHUNK_BYTES:  # the usual case: no request can exceed the limit of bytes
        for start in range(0, len(indices), MAX_CHUNK_RECORDS):
            yield indices[start : start + MAX_CHUNK_RECORDS]
        return
    chunk: list[int] = []
    n_bytes = 0
    for index in indices:
        partition_key, data = entries[index]
        size = len(data) + len(partition_key.encode())
        if chunk and (len(chunk) == MAX_CHUNK_RECORDS or n_bytes + size > MAX_CHUNK_BYTES):
            yield chunk
            chunk, n_bytes = [], 0
        chunk.append(index)
        n_bytes += size
    if chunk:
        yield chunk
