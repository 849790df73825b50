"""`python -m tests.bench.calibrated_year`: what a year of daily or hourly calibrations costs a channel and its history.

The bucket is in memory, so the times are those of our code; `reads` are the objects that S3 would be asked for.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any

from infra.local.s3 import MemoryS3
from lambda_function.core.channel import channel_key, decode_channel
from tests.builders import small_bundle
from tests.builders_calibrations import calibration_bytes, calibration_of
from tests.fakes import BUCKET
from training.registry.bucket import Bucket
from training.registry.channel_history import last_entry, read_moves
from training.registry.channels import Mover, calibrate_channel, move_channel, store_bundle, version_before

START = datetime(2026, 1, 1, 5, tzinfo=UTC)
HOURS_A_YEAR = 8760
MAX_CALIBRATIONS = 1100
"""Moves to make: more than a channel has segments, so that the rest of a year's entries are of the same size."""

_N_DECODES = 20


class CountingS3(MemoryS3):
    """A bucket in memory that counts reads."""

    n_reads = 0

    def get_object(self, **request: Any) -> dict[str, Any]:
        """Read an object."""
        self.n_reads += 1
        return super().get_object(**request)


def calibrated_year(every_hours: int) -> str:
    """Calibrate a channel, then promote another model; return what a year of that costs as a line."""
    s3, now = CountingS3(), [START]
    bucket, mover = Bucket(s3, BUCKET, n_threads=1), Mover("bench", lambda: now[0])
    first, second = small_bundle(1), small_bundle(2)
    for bundle in (first, second):
        store_bundle(bucket, bundle)
    move_channel(bucket, "stable", first.model_version, first.manifest_sha256, mover=mover)
    moves_s: list[float] = []
    n_a_year = HOURS_A_YEAR // every_hours
    n_calibrations = min(n_a_year, MAX_CALIBRATIONS)
    for hours in range(every_hours, every_hours * n_calibrations + 1, every_hours):
        now[0] = START + timedelta(hours=hours)
        data = calibration_bytes(calibration_of(first.model, now[0].strftime("%Y-%m-%dT%H")))
        moves_s.append(_seconds(partial(calibrate_channel, bucket, "stable", data, mover=mover)))
    now[0] += timedelta(hours=1)
    move_channel(bucket, "stable", second.model_version, second.manifest_sha256, mover=mover)
    channel = s3.objects[channel_key("stable")]
    decode_ms = 1e3 * min(_seconds(lambda: decode_channel(channel)) for _ in range(_N_DECODES))
    entries = [len(body) for key, body in sorted(s3.objects.items()) if key.startswith("history/")]
    history_mb = (sum(entries) + (n_a_year - n_calibrations) * entries[-1]) / 1e6
    reads = {
        name: _n_reads(s3, call)
        for name, call in (
            ("models history", lambda: read_moves(bucket, "stable")),
            ("version before", lambda: version_before(bucket, "stable")),
            ("restore", lambda: last_entry(bucket, "stable")),
        )
    }
    n_segments = len(decode_channel(channel).segments)
    return (
        f"every {every_hours} h: {n_segments:,} segments, channel {len(channel) / 1e3:.0f} kB, "
        f"decoded in {decode_ms:.1f} ms, a move takes {1e3 * median(moves_s):.1f} ms, "
        f"history of a year {history_mb:,.0f} MB; reads: {', '.join(f'{name} {n}' for name, n in reads.items())}"
    )


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.process_time()
    call()
    return time.process_time() - started_s


def _n_reads(s3: CountingS3, call: Callable[[], object]) -> int:
    before = s3.n_reads
    call()
    return s3.n_reads - before


if __name__ == "__main__":
    for hours in (24, 1):
        print(calibrated_year(hours), flush=True)  # noqa: T201 - a command
