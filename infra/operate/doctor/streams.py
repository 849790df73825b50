"""The streams: shards for their traffic, concurrency for their shards, and the account's quotas for both."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import ceil
from typing import Any

from infra.operate.doctor.facts import (
    ConcurrencyFacts,
    Finding,
    MappingFacts,
    QuotaFacts,
    StackFacts,
    StreamFacts,
    counted,
    good,
)
from infra.operate.doctor.faults import found
from infra.operate.doctor.metrics import MINUTE_S, by_minute
from infra.operate.doctor.reading import Reading

BYTES_PER_MB = 1024 * 1024
S_PER_H = 3600

SHARD_RECORDS_PER_S = 1000
SHARD_BYTES_PER_S = 1024 * 1024
"""Capacity of a shard."""

BUSY_SHARE = 0.7
"""Of the shards' capacity. Above it, there is no room for a peak within the minute, or for an uneven spread of keys."""

FULL_SHARE = 0.9
"""Of a quota. Above it, the next scaling may fail."""

ON_DEMAND_GROWTH = 2
"""Kinesis doubles the capacity of a stream on demand by itself, so the shards may double within minutes."""

MIN_UNRESERVED = 100
"""Concurrent executions that Lambda keeps for functions without a reservation."""

_ON_DEMAND = "ON_DEMAND"
_METRICS = ("IncomingRecords", "IncomingBytes", "PutRecords.ThrottledRecords", "WriteProvisionedThroughputExceeded")
_RESOURCE_OF = {"input": "RideEvents", "output": "RidePredictions", "outcomes": "RideOutcomes"}
_QUOTA_OF_LAMBDA = "Lambda's `Concurrent executions` (L-B99A9384) in Service Quotas"


def read(reading: Reading) -> dict[str, Any]:
    """Read the streams and the quotas."""
    kinesis, cloudwatch, aws_lambda = map(reading.client, ("kinesis", "cloudwatch", "lambda"))
    streams = []
    for role, resource in _RESOURCE_OF.items():
        name = reading.stack.outputs.get(f"{resource}Stream")
        if not name:  # the stack is older than its stream of outcomes
            continue
        probe = partial(probe_stream, kinesis, cloudwatch, name, role, reading.window)
        stream = reading.part(f"{role} stream", None, probe, _missing(role, name, reading.stack.parameters))
        if stream:
            streams.append(replace(stream, **_wanted(resource, reading)))
    return {
        "streams": tuple(streams),
        "quotas": reading.part("quotas", (), lambda: probe_quotas(kinesis, aws_lambda)),
    }


def _missing(role: str, name: str, parameters: Mapping[str, str]) -> Finding:
    resource, what = _RESOURCE_OF[role], f"{name} does not exist"
    if parameters.get(f"{resource}Arn"):
        return found("existing-stream-missing", what, check=f"{role} stream", parameter=f"{resource}Arn")
    shards = parameters.get(f"{resource}Shards", "1")
    return found(f"{role}-stream-missing", what, name=name, shards=shards)


def _wanted(resource: str, reading: Reading) -> dict[str, Any]:
    """Return what the stack wants of a stream; of one that existed already only that its roles may use its key."""
    if reading.stack.parameters.get(f"{resource}Arn"):
        usable_key = reading.stack.parameters.get(f"{resource}KeyArn", "")
        return {"is_own": False, "usable_key": usable_key, "parameters": {}}
    properties = reading.wanted(resource)
    key = properties.get("StreamEncryption", {}).get("KeyId")
    return {"wanted_retention_h": int(properties.get("RetentionPeriodHours", 0)), "wanted_key": key or ""}


def probe_stream(kinesis: Any, cloudwatch: Any, name: str, role: str, window: tuple[datetime, datetime]) -> StreamFacts:
    """Describe a stream, by its role as in StreamFacts, and sum up its metrics."""
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    found = by_minute(cloudwatch, window, "AWS/Kinesis", ("StreamName", name), dict.fromkeys(_METRICS, "Sum"))
    records, n_bytes, throttled, throttled_writes = (found[metric] for metric in _METRICS)
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
        n_throttled=int(max(sum(throttled), sum(throttled_writes))),  # both count what PutRecords refused
        retention_h=summary["RetentionPeriodHours"],
        key=summary.get("KeyId", "") if summary.get("EncryptionType") == "KMS" else "",
        parameters={
            "StreamMode": mode,
            **({} if mode == _ON_DEMAND else {f"{_RESOURCE_OF[role]}Shards": str(n_shards)}),
        },
    )


def probe_quotas(kinesis: Any, aws_lambda: Any) -> tuple[QuotaFacts, ...]:
    """Read the account's quotas of shards, streams on demand and code storage."""
    streams: Mapping[str, int] = kinesis.describe_limits()
    code = aws_lambda.get_account_settings()
    used, limit = code["AccountUsage"]["TotalCodeSize"], code["AccountLimit"]["TotalCodeSize"]
    return (
        QuotaFacts("shards", streams["OpenShardCount"], streams["ShardLimit"]),
        QuotaFacts("streams on demand", streams["OnDemandStreamCount"], streams["OnDemandStreamCountLimit"]),
        QuotaFacts("MB for functions' code", used // BYTES_PER_MB, limit // BYTES_PER_MB),
    )


def check_streams(facts: StackFacts) -> Iterator[Finding]:
    """Check that each stream has shards for its traffic, and keeps and encrypts records as in the template."""
    for stream in facts.streams:
        yield from _settings(stream, facts.mapping)
        yield _traffic(stream, is_measured=not facts.is_local)


def _settings(stream: StreamFacts, mapping: MappingFacts | None) -> Iterator[Finding]:
    age_s = mapping.max_record_age_s if mapping and stream.role == "input" else 0
    if stream.retention_h < stream.wanted_retention_h or stream.retention_h * S_PER_H <= age_s:
        template = f"the template says {stream.wanted_retention_h} h"
        what = f"{stream.name} keeps records for {stream.retention_h} h, and {template}"
        if stream.retention_h * S_PER_H <= age_s:
            what += f": a batch that fails is lost before Lambda stores it, after {age_s / S_PER_H:g} h"
        hours = max(stream.wanted_retention_h, ceil(2 * age_s / S_PER_H))
        yield found(f"{stream.role}-retention-short", what, name=stream.name, hours=hours)
    if stream.wanted_key and stream.key != stream.wanted_key:
        what = f"{stream.name} is encrypted with {stream.key or 'no key'}, and not with the stack's key"
        yield found(f"{stream.role}-stream-not-encrypted", what, name=stream.name, key=stream.wanted_key)
    if not stream.is_own and "alias/" not in stream.key and not stream.usable_key.endswith(_id_of_key(stream.key)):
        what = f"{stream.name} is encrypted with {stream.key}, which the stack's roles may not use"
        parameter = f"{_RESOURCE_OF[stream.role]}KeyArn"
        yield found("existing-stream-key", what, check=f"{stream.role} stream", parameter=parameter, key=stream.key)


def _id_of_key(key: str) -> str:
    """Return the id of a key that Kinesis gives by its ARN or its id."""
    return key.rpartition("/")[2]


def _traffic(stream: StreamFacts, *, is_measured: bool) -> Finding:
    fault, shards = f"{stream.role}-stream", counted(stream.n_open_shards, "shard")
    if stream.n_throttled:
        what = f"{stream.name} refused {stream.n_throttled:,} records for lack of shards: it has {shards}"
        if stream.is_on_demand:
            return found(f"{fault}-growing", what)
        return _needs_shards("full", stream, what)
    if stream.is_on_demand:
        return good(f"{stream.role} stream", f"{stream.name} is on demand, {shards} now, and refused nothing")
    share = max(
        stream.peak_records_per_s / (stream.n_open_shards * SHARD_RECORDS_PER_S),
        stream.peak_bytes_per_s / (stream.n_open_shards * SHARD_BYTES_PER_S),
    )
    busy = f", {share:.0%} full in its busiest minute" if share or is_measured else ""
    what = f"{stream.name} has {shards}{busy}"
    if share > BUSY_SHARE:
        return _needs_shards("busy", stream, what)
    return good(f"{stream.role} stream", what)


def _needs_shards(fault: str, stream: StreamFacts, what: str) -> Finding:
    n_shards = stream.n_open_shards * 2
    if stream.is_own:
        return found(f"{stream.role}-stream-{fault}", what, shards=n_shards)
    return found(f"existing-stream-{fault}", what, check=f"{stream.role} stream", shards=n_shards)


def check_concurrency(facts: StackFacts) -> Iterator[Finding]:
    """Check that the batches of all shards of the input can be processed at the same time."""
    stream, mapping, concurrency = facts.stream("input"), facts.mapping, facts.concurrency
    if stream is None or mapping is None or concurrency is None:
        return
    growth = ON_DEMAND_GROWTH if stream.is_on_demand else 1
    n_needed = stream.n_open_shards * mapping.parallelization_factor * growth
    shards = counted(stream.n_open_shards, "shard") + (f" that may become {growth} times as many" if growth > 1 else "")
    needs = f"{shards} x ParallelizationFactor {mapping.parallelization_factor} take {n_needed:,} at a time"
    if concurrency.reserved is None:
        yield _without_reservation(concurrency, n_needed, needs)
    else:
        yield _with_reservation(concurrency, concurrency.reserved, n_needed, needs)


def _without_reservation(concurrency: ConcurrencyFacts, n_needed: int, needs: str) -> Finding:
    what = f"{needs}, and all functions without a reservation share {concurrency.n_unreserved:,}"
    if n_needed <= FULL_SHARE * concurrency.n_unreserved:
        return good("concurrency", what)
    return found("concurrency-shared", what, quota=_QUOTA_OF_LAMBDA)


def _with_reservation(concurrency: ConcurrencyFacts, n_reserved: int, n_needed: int, needs: str) -> Finding:
    what = f"{needs}, and {n_reserved:,} are reserved"
    remedy = f"deploy with ReservedConcurrency={n_needed}"
    n_short = n_needed - n_reserved - max(concurrency.n_unreserved - MIN_UNRESERVED, 0)
    if n_short > 0:
        wanted = f"{concurrency.n_account:,} to {concurrency.n_account + n_short:,} at least"
        remedy = f"raise {_QUOTA_OF_LAMBDA} from {wanted}, then {remedy}"
    if n_reserved == 0:
        return found("concurrency-zero", f"{what}: Lambda does not invoke the function at all", next=remedy)
    if n_reserved < n_needed:
        return found("concurrency-short", f"{what}: shards wait for each other", next=remedy)
    return good("concurrency", what)


def check_quotas(facts: StackFacts) -> Iterator[Finding]:
    """Check how much is left of the account's quotas."""
    for quota in facts.quotas:
        what = f"{quota.n_used:,} of the account's {quota.limit:,} {quota.name} are used"
        is_full = quota.n_used > FULL_SHARE * quota.limit
        yield found("quota-nearly-used", what) if is_full else good("quota", what)
