"""The entry point on the stream: a batch of ride events in, rejects to the bucket, predictions to the output stream.

One invocation: decode → predict → store rejects → publish → report what must come again.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from lambda_function.aws.clients import make_clients
from lambda_function.aws.invocation import Context, no_garbage_collection
from lambda_function.aws.model_store import GetObject, ModelStore
from lambda_function.aws.output import Output, TimeLeft
from lambda_function.aws.publisher import Publisher, PutRecords
from lambda_function.aws.rejects import PutObject, RejectStore
from lambda_function.aws.settings import Settings, is_snapshotted
from lambda_function.aws.snapshot import Registry, Restorable, runtime_registry
from lambda_function.aws.telemetry import MILLISECONDS_PER_S, BatchReport, Stopwatch, Telemetry
from lambda_function.core.processor import process_by_arrival
from lambda_function.core.records import decode_records, stream_name
from lambda_function.core.rehearsal import is_rehearsal, rehearse
from lambda_function.core.replay import is_replay, replay_result


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Handle one batch of ride events.

    Args:
        event: An invocation by a Kinesis event source mapping with ReportBatchItemFailures.
        context: Lambda's context.

    Returns:
        The partial batch response.
    """
    handler = _cold_start()
    try:
        return handler(event, context)
    except Exception as error:
        handler.telemetry.failed(error)
        raise


class S3(GetObject, PutObject, Protocol):
    """The part of an S3 client that the handler uses."""


@dataclass(frozen=True, slots=True)
class StreamHandler:
    """The function with its parts. `clock` returns seconds since the epoch."""

    models: ModelStore
    output: Output
    telemetry: Telemetry
    deadline_margin_ms: int = Settings.deadline_margin_ms
    clock: Callable[[], float] = time.time

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Handle one batch; the answer names the lowest sequence number that must come again, if there is one.

        Raises:
            PublishError: The output stream refuses predictions for good, and took none; the whole batch comes again.
        """
        with no_garbage_collection():
            return self._handle(event, context)

    def _handle(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        records = decode_records(event)
        if not records:
            return {"batchItemFailures": []}
        if is_rehearsal(event):
            return rehearse(records, self.models.refresh().models[0])
        stream, started_at_s = stream_name(event), self.clock()
        time_left = TimeLeft.of(context.get_remaining_time_in_millis, self.deadline_margin_ms)
        arrivals_s = [record.envelope.arrival_time_s for record in records]
        oldest_at_s = min(arrivals_s)
        refreshed = self.models.refresh(arrivals_s)
        predict_time = Stopwatch()
        batch = process_by_arrival(records, refreshed.models)
        predict_ms = predict_time.ms()
        delivered = self.output.deliver(stream, records, batch, time_left, is_replay=is_replay(event))
        n_done = delivered.n_done
        retry_from = records[n_done].envelope.sequence_number if n_done < len(records) else ""
        self.telemetry.report(
            BatchReport(
                stream=stream,
                shard_id=records[0].shard_id,
                first_sequence_number=records[0].envelope.sequence_number,
                n_records=len(records),
                max_record_age_ms=max(0.0, (started_at_s - oldest_at_s) * MILLISECONDS_PER_S),
                n_predictions=bisect_left(batch.positions, n_done),
                n_without_pickup_time=batch.n_without_pickup_time,
                rejects_by_reason=Counter(reject.reason for position, reject in batch.rejects if position < n_done),
                n_rejects_in_queue=delivered.n_rejects_in_queue,
                n_rejects_not_stored=delivered.n_rejects_not_stored,
                n_retried=len(records) - n_done,
                n_resent=delivered.n_resent,
                retry_from=retry_from,
                predict_ms=predict_ms,
                publish_ms=delivered.publish_ms,
                problem="; ".join(filter(None, [*delivered.problems, str(refreshed.error or "")])),
                model_version=refreshed.model.served_version,
                older_model_versions=[version for one in refreshed.models[1:] for version in one.served_versions],
                candidate_version=refreshed.models[0].candidate_version,
                model_switched=refreshed.switched,
                refresh_failed=refreshed.error is not None,
                channel_is_stale=refreshed.is_stale,
                channel_age_s=refreshed.channel_age_s,
            )
        )
        if delivered.refusal:
            raise delivered.refusal
        answer = {"batchItemFailures": [{"itemIdentifier": retry_from}] if retry_from else []}
        if is_replay(event):
            answer |= replay_result(records, [reject for _, reject in batch.rejects])
        return answer


def build_handler(
    settings: Settings, s3: S3, kinesis: PutRecords, monotonic: Callable[[], float] = time.monotonic
) -> StreamHandler:
    """Build the handler around two clients. `monotonic` returns seconds that never go back."""
    return StreamHandler(
        models=ModelStore(
            s3,
            settings.bucket,
            settings.model_channel,
            settings.model_refresh_s,
            clock=monotonic,
            signing_key=settings.model_signing_key,
            activation_delay_s=settings.model_activation_delay_s,
        ),
        output=Output(
            RejectStore(s3, settings.bucket, settings.rejects_queue_url),
            Publisher(kinesis, settings.output_stream),
            settings.packed_groups,
        ),
        telemetry=Telemetry(settings.service_name, settings.metrics_namespace, settings.log_level),
        deadline_margin_ms=settings.deadline_margin_ms,
    )


_restorable = Restorable(make_clients)


@cache
def _cold_start() -> StreamHandler:
    """Read the settings and build the clients, once per execution environment."""
    settings = Settings.from_env()
    return build_handler(settings, *_restorable.new_clients(), _restorable.clock)


def _before_snapshot() -> None:
    handler = _cold_start()
    problem = _restorable.before_snapshot(handler.models)
    if problem:
        handler.telemetry.logger.warning("snapshot without a model", extra={"problem": str(problem)})


def register_hooks(registry: Registry | None) -> None:
    """Register the SnapStart hooks with the runtime; does nothing if the runtime has no registry."""
    if registry is not None:
        registry.register_before_snapshot(_before_snapshot)
        registry.register_after_restore(_restorable.after_restore)


if is_snapshotted():
    register_hooks(runtime_registry())
