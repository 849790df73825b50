"""The entry point of the archive: a batch of any of the three streams in, objects of its records in the bucket out.

It judges nothing: a record is archived as it came, whatever it holds. It answers once S3 has confirmed every object;
otherwise it raises, and the batch comes again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lambda_function.aws.archive_store import ArchiveStore
from lambda_function.aws.clients import make_s3_client
from lambda_function.aws.invocation import Context, no_garbage_collection
from lambda_function.aws.rejects import PutObject
from lambda_function.aws.settings import ArchiveSettings
from lambda_function.aws.telemetry import MILLISECONDS_PER_S, ArchiveReport, ArchiveTelemetry
from lambda_function.core.records import decode_records, stream_name
from lambda_function.core.replay import is_replay, replay_result
from lambda_function.errors import ConfigurationError

STORE_MARGIN_MS = 10_000
"""No request starts in this time before Lambda's timeout: a hung S3 takes 4 s, twice, and a pause between."""


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Archive one batch.

    Args:
        event: An invocation by a Kinesis event source mapping, or a replay.
        context: Lambda's context.

    Returns:
        The partial batch response, without failures.
    """
    handler = _cold_start()
    try:
        return handler(event, context)
    except Exception as error:
        handler.telemetry.failed(error)
        raise


@dataclass(frozen=True, slots=True)
class ArchiveHandler:
    """The function with its parts. `kinds` are the kinds of records by stream."""

    store: ArchiveStore
    kinds: Mapping[str, str]
    telemetry: ArchiveTelemetry

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Archive one batch.

        Raises:
            StoreError: S3 has not confirmed every object; the whole batch must come again.
            ConfigurationError: The batch is not of one of the three streams.
        """
        with no_garbage_collection():
            return self._handle(event, context)

    def _handle(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        records = decode_records(event)
        if not records:
            return {"batchItemFailures": []}
        stream = stream_name(event)
        kind = self._kind_of(stream)
        margin_ms = min(STORE_MARGIN_MS, context.get_remaining_time_in_millis() / 2)

        def time_left_s() -> float:
            return (context.get_remaining_time_in_millis() - margin_ms) / MILLISECONDS_PER_S

        n_bytes = self.store.store(kind, records, time_left_s)
        self.telemetry.report(
            ArchiveReport(
                stream=stream,
                kind=kind,
                shard_id=records[0].shard_id,
                first_sequence_number=records[0].envelope.sequence_number,
                n_records=len(records),
                n_objects=len(n_bytes),
                n_bytes=sum(n_bytes),
            )
        )
        answer: dict[str, Any] = {"batchItemFailures": []}
        return answer | replay_result(records, []) if is_replay(event) else answer

    def _kind_of(self, stream: str) -> str:
        kind = self.kinds.get(stream)
        if kind is None:
            known = ", ".join(self.kinds)
            raise ConfigurationError(
                "RIDE_EVENTS_STREAM, RIDE_PREDICTIONS_STREAM or RIDE_OUTCOMES_STREAM",
                f"has to name the stream {stream or '(none)'}, which invokes the function: they name {known}",
            )
        return kind


def build_archiver(settings: ArchiveSettings, s3: PutObject) -> ArchiveHandler:
    """Build the handler around an S3 client."""
    return ArchiveHandler(
        ArchiveStore(s3, settings.bucket),
        settings.kinds,
        ArchiveTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level),
    )


@cache
def _cold_start() -> ArchiveHandler:
    """Read the settings and build the client, once per execution environment."""
    return build_archiver(ArchiveSettings.from_env(), make_s3_client())
