"""Bring original records to the function again, by invoking its alias as the event source mapping does.

Nothing is put onto a stream: event id, sequence number, arrival time, partition key and data stay the same, so each
prediction has the id that it always has. See `lambda_function/core/replay.py`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.operate.lambda_event import MAX_PAYLOAD_BYTES, LambdaRecord
from infra.operate.shards import is_temporary
from infra.operate.streams import Timing
from lambda_function.aws.publisher import FIRST_BACKOFF_S, MAX_BACKOFF_S
from lambda_function.core.replay import REPLAY_FIELD, replay_event
from training.errors import UserError

T = TypeVar("T")

MAX_RECORDS = 500
"""Records of one invocation: so many may be published again after an interruption."""

PATIENCE_S = 60.0
"""How long the function may finish no record."""

LONGEST_TIMEOUT_S = 905
"""Lambda's longest timeout of a function, 15 minutes, and a margin: how long an answer may take."""

_ENVELOPE_BYTES = 100
"""At least the bytes of a replay around its records."""


class Replayed(NamedTuple):
    """The result of a replay: `n_done` leading records are done, and the others are still open."""

    n_done: int
    rejected: frozenset[str]  # event ids of records that the function rejected, all of them among those done
    last_error: str = ""  # why records are open


class _Item(msgspec.Struct, frozen=True):
    sequence_number: str = msgspec.field(name="itemIdentifier")


class _Result(msgspec.Struct, frozen=True):
    rejected: tuple[str, ...] = ()


class _Answer(msgspec.Struct, frozen=True):
    failures: tuple[_Item, ...] = msgspec.field(name="batchItemFailures")
    result: _Result = msgspec.field(name=REPLAY_FIELD, default=_Result())


class _AnswerLostError(Exception):
    """AWS gave no complete answer, or asks to wait."""


@dataclass(frozen=True, slots=True)
class Replayer:
    """Brings records to one function."""

    client: Any  # a boto3 client of Lambda
    function: str  # name or ARN, with the alias: NAME:ALIAS
    timing: Timing = Timing()  # noqa: RUF009 - immutable

    def stream_arn(self, stream: str) -> str:
        """Return the ARN of a stream in the function's account; without region and account if it is not known."""
        parts = self.function.split(":")
        partition, region, account = (parts[1], *parts[3:5]) if parts[0] == "arn" else ("aws", "", "")
        return f"arn:{partition}:kinesis:{region}:{account}:stream/{stream}"

    def replay(self, records: Sequence[LambdaRecord]) -> Replayed:
        """Invoke the function until all records are done, or no more are done within PATIENCE_S.

        Args:
            records: Of one shard, in order, within one invocation's limits: see `chunks`.

        Raises:
            UserError: The function failed, or AWS refused the request: how many are done is unknown.
        """
        n_done, rejected, last_error = 0, set[str](), ""
        backoff_s, give_up_s = FIRST_BACKOFF_S, self.timing.clock() + PATIENCE_S
        while True:
            try:
                n_more, more_rejected = self._invoke(records[n_done:])
            except _AnswerLostError as error:
                n_more, more_rejected, last_error = 0, frozenset(), str(error)
            else:
                last_error = "the function did not finish them: see its log"
            done_ids = {record["eventID"] for record in records[n_done : n_done + n_more]}
            rejected |= more_rejected & done_ids
            n_done += n_more
            if n_done == len(records):
                return Replayed(n_done, frozenset(rejected))
            if n_more:
                backoff_s, give_up_s = FIRST_BACKOFF_S, self.timing.clock() + PATIENCE_S
            if self.timing.clock() + backoff_s >= give_up_s:
                return Replayed(n_done, frozenset(rejected), last_error)
            self.timing.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    def _invoke(self, records: Sequence[LambdaRecord]) -> tuple[int, frozenset[str]]:
        """Invoke the function once; return how many leading records are done, and the ids of those rejected."""
        body = json.dumps(replay_event(records), separators=(",", ":")).encode()
        try:
            response = self.client.invoke(FunctionName=self.function, Payload=body)
            payload: bytes = response["Payload"].read()
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            if is_temporary(error):
                raise _AnswerLostError(str(error)) from error
            raise UserError(
                f"cannot invoke {self.function}: {error}", "check its name, and that you may invoke it"
            ) from error
        if response.get("FunctionError"):
            raise UserError(f"function {self.function} failed: {_error_of(payload)}", "see its log, and the runbook")
        try:
            answer = msgspec.json.decode(payload, type=_Answer)
        except msgspec.MsgspecError as error:
            raise _AnswerLostError(f"the answer was cut off or is not the function's: {error}") from error
        places = [_place(one.sequence_number, records) for one in answer.failures]
        return min(places, default=len(records)), frozenset(answer.result.rejected)


def _place(sequence_number: str, records: Sequence[LambdaRecord]) -> int:
    """Return the place of the first record with a sequence number; as for Lambda, an unknown one means all records."""
    numbers = [record["kinesis"]["sequenceNumber"] for record in records]
    return numbers.index(sequence_number) if sequence_number in numbers else 0


def _error_of(payload: bytes) -> str:
    try:
        error = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.MsgspecError:
        return payload.decode(errors="replace")
    return f"{error.get('errorType', 'error')}: {error.get('errorMessage', '')}"


def chunks(
    records: Iterable[T], shard_of: Callable[[T], object], size_of: Callable[[T], int], max_records: float = MAX_RECORDS
) -> Iterator[list[T]]:
    """Split records into invocations: of one shard each, within Lambda's limits, in order.

    Args:
        records: Any form of records.
        shard_of: Returns the stream and shard of a record.
        size_of: Returns the bytes that a record takes in an invocation, at most.
        max_records: The limit of an invocation, if it is below MAX_RECORDS.
    """
    chunk: list[T] = []
    n_bytes = _ENVELOPE_BYTES
    for record in records:
        size = size_of(record)
        is_full = len(chunk) >= min(MAX_RECORDS, max_records) or n_bytes + size > MAX_PAYLOAD_BYTES
        if chunk and (is_full or shard_of(record) != shard_of(chunk[0])):
            yield chunk
            chunk, n_bytes = [], _ENVELOPE_BYTES
        chunk.append(record)
        n_bytes += size
    if chunk:
        yield chunk
