"""The two streams and their traffic, and the account's quotas that they and the function share with others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from infra.doctor.facts import QuotaFacts, StreamFacts
from infra.doctor.metrics import MINUTE_S, Metric, by_minute

BYTES_PER_MB = 1024 * 1024

_ON_DEMAND = "ON_DEMAND"
_METRICS = ("IncomingRecords", "IncomingBytes", "PutRecords.ThrottledRecords", "WriteProvisionedThroughputExceeded")
_SHARDS_OF = {"input": "RideEventsShards", "output": "RidePredictionsShards"}


def look_at_stream(
    kinesis: Any, cloudwatch: Any, name: str, role: str, window: tuple[datetime, datetime]
) -> StreamFacts:
    """Looks at a stream, and sums its metrics up.

    Args:
        kinesis: A boto3 client.
        cloudwatch: Likewise.
        name: The stream's.
        role: "input" or "output".
        window: From when to when, aware.

    Raises:
        ClientError: Kinesis or CloudWatch refused.
    """
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    wanted = [Metric("AWS/Kinesis", metric, ("StreamName", name), "Sum") for metric in _METRICS]
    records, n_bytes, throttled, throttled_writes = by_minute(cloudwatch, window, wanted)
    mode = summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
    n_shards: int = summary["OpenShardCount"]
    return StreamFacts(
        name=name,
        role=role,
        n_open_shards=n_shards,
        is_on_demand=mode == _ON_DEMAND,
        n_records=int(sum(records)),
        peak_records_per_s=max(records, default=0.0) / MINUTE_S,
        peak_bytes_per_s=max(n_bytes, default=0.0) / MINUTE_S,
        n_throttled=int(max(sum(throttled), sum(throttled_writes))),  # each counts what a PutRecords was refused
        parameters={"StreamMode": mode, **({} if mode == _ON_DEMAND else {_SHARDS_OF[role]: str(n_shards)})},
    )


def look_at_quotas(kinesis: Any, aws_lambda: Any) -> tuple[QuotaFacts, ...]:
    """Asks what the account has left of shards, streams on demand, and room for code.

    Raises:
        ClientError: Kinesis or Lambda refused.
    """
    streams: Mapping[str, int] = kinesis.describe_limits()
    code = aws_lambda.get_account_settings()
    used, limit = code["AccountUsage"]["TotalCodeSize"], code["AccountLimit"]["TotalCodeSize"]
    return (
        QuotaFacts("shards", streams["OpenShardCount"], streams["ShardLimit"]),
        QuotaFacts("streams on demand", streams["OnDemandStreamCount"], streams["OnDemandStreamCountLimit"]),
        QuotaFacts("MB for functions' code", used // BYTES_PER_MB, limit // BYTES_PER_MB),
    )
