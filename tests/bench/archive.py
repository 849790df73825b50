"""CPU time, memory and stored bytes of the archive, beside a plain one."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.operate.lambda_event import lambda_record
from lambda_function.core.archive_lines import encode_lines
from lambda_function.core.events import decode_prediction
from lambda_function.core.kpl import MAGIC
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.processor import process
from lambda_function.core.records import KINDS, MAX_RECORD_BYTES, OUTCOMES, PREDICTIONS, RIDES, Entry, decode_records
from tests.bench.archive_stand_ins import archiver_around
from tests.bench.comparators import plain_archive
from tests.bench.figures import BYTES, MB, TIMES, US, Figure
from tests.bench.subjects import FIRST_SEQUENCE_NUMBER, Subject
from tests.bench.timing import cpu_us_per_ride

ARRIVAL_TIME_S = 1_785_574_800.0
SHARD_ID = "shardId-000000000000"
BUDGET_MB = 160.0
BUDGET_BYTES = {RIDES: 32.0}
"""Of storage in S3 for 90 days, by kind."""


def bench_archive(subject: Subject) -> list[Figure]:
    """Time the archive on the largest batch of each kind, and count what it stores; a thousand records a second."""
    entries = entries_of(subject)
    events = {kind: archive_event(kind, entries[kind]) for kind in KINDS}
    sizes: list[int] = []
    archiver = archiver_around(sizes)
    stored = {}
    for kind in KINDS:
        archiver(events[kind])
        stored[kind] = sum(sizes) / len(entries[kind])
        sizes.clear()
    us = cpu_us_per_ride(
        {
            **{kind: (lambda kind=kind: archiver(events[kind]), len(entries[kind])) for kind in KINDS},  # type: ignore[misc]
            "plain": (lambda: plain_archive(events[RIDES]), len(entries[RIDES])),
        }
    )
    return [
        *(Figure(f"archive: batch of {len(entries[kind]):,} {kind}", us[kind], US, 4.0) for kind in KINDS),
        Figure("archive: a plain one, json and gzip, of rides", us["plain"], US),
        Figure("archive: cheaper than the plain one", us["plain"] / us[RIDES], TIMES, 2.5),
        *(Figure(f"archive: stored, {kind}", stored[kind], BYTES, BUDGET_BYTES.get(kind)) for kind in KINDS),
        Figure("archive: peak memory, rides", peak_mb(events[RIDES]), MB, BUDGET_MB),
        Figure("archive: peak memory, aggregates of tiny sub-records", peak_mb(tiny_sub_records()), MB, BUDGET_MB),
    ]


def entries_of(subject: Subject) -> dict[str, list[Entry]]:
    """Return the records of the subject's rides on each stream: partition key and data."""
    records = decode_records(subject.event)
    rides = [(record.envelope.partition_key, record.envelope.data) for record in records]
    predictions = process(records, subject.with_intervals.model).entries
    durations = [decode_prediction(data).prediction for _, data in predictions]
    outcomes = [(str(one.ride_id), encode_outcome(Outcome(one.ride_id, one.ride_duration))) for one in durations]
    return {RIDES: rides, PREDICTIONS: predictions, OUTCOMES: outcomes}


def archive_event(kind: str, entries: Iterable[Entry]) -> dict[str, Any]:
    """Build an invocation by the stream that has the kind's name, whose records arrive a millisecond apart."""
    arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{kind}"
    records = []
    for number, (key, data) in enumerate(entries):
        sequence_number = str(FIRST_SEQUENCE_NUMBER + number)
        arrival_time_s = ARRIVAL_TIME_S + number / 1000
        records.append(lambda_record(f"{SHARD_ID}:{sequence_number}", key, sequence_number, arrival_time_s, data, arn))
    return {"Records": records}


def tiny_sub_records() -> dict[str, Any]:
    """Build an invocation with four full aggregates of the smallest sub-records that are archived one by one."""
    sub_record = b"\x08\x00\x1a\x32" + b"x" * 50  # the first key, and 50 bytes of data
    record = b"\x1a\x36" + sub_record
    body = b"\x0a\x01k" + record * (MAX_RECORD_BYTES // len(record) - 1)
    aggregate = MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()
    assert encode_lines(decode_records(archive_event(RIDES, [("1", aggregate)]))).count(b"\n") > 1
    return archive_event(RIDES, [("1", aggregate)] * 4)


def peak_mb(event: dict[str, Any]) -> float:
    """Measure the peak memory of a process that contains only the function."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "event.json")
        path.write_text(json.dumps(event))
        command = [sys.executable, "-m", "tests.bench.archive_probe", str(path)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own module
    return int(answer.stdout.splitlines()[-1]) / 1e6
