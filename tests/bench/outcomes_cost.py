"""Measure the constants of infra/operate/cost_outcomes.py: `python -m tests.bench.outcomes_cost`.

Sizes and times of records are those of a real month, with sequence numbers at random steps. The time of a join is that
in a steady stream of made-up rides. CPU times are of one core, and the best of three.
"""

import argparse
import sys
import zlib
from collections.abc import Callable
from time import process_time

import numpy as np

from infra.local.demo.replay import ride_events
from infra.local.s3 import MemoryS3
from infra.operate.outcomes import outcome_entries
from lambda_function.aws.archive_store import GZIP_LEVEL
from lambda_function.core.archive_lines import PREFIX, encode_lines
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, KinesisRecord
from tests.builders import interval_bundle
from tests.builders_archive import HOUR, archive, archive_steady_stream, archived_record, predictions_of
from training.data.load import load_rides
from training.data.months import Month, default_data_dir
from training.monitoring.join.archive_reader import ArchiveReader, by_ride_key
from training.monitoring.join.join import join_hour, labelled_key
from training.monitoring.join.options import JoinOptions
from training.registry.bucket import Bucket

N_FULL_BATCH = 8_000
_MAX_STEP = 2_000_000
_SECONDS = 3_600
_ONE_THREAD = JoinOptions(threads=1)


def records_of(rng: np.random.Generator, entries: list[tuple[str, bytes]], first_s: float) -> list[KinesisRecord]:
    """Return entries as records that arrive within an hour."""
    arrivals_s = first_s + np.sort(rng.uniform(0, _SECONDS - 1, len(entries))).round(3)
    numbers = np.cumsum(rng.integers(1, _MAX_STEP, len(entries)))
    return [
        archived_record(data, at_s, number, key=key)
        for (key, data), at_s, number in zip(entries, arrivals_s.tolist(), numbers.tolist(), strict=True)
    ]


def best_s(function: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of three calls."""
    times_s = []
    for _ in range(3):
        begun_s = process_time()
        function()
        times_s.append(process_time() - begun_s)
    return min(times_s)


def main() -> None:
    """Print the constants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rides", type=int, default=60_000, help="rides of green 2021-01")
    loaded = load_rides("green", [Month(2021, 1)], data_dir=default_data_dir()).head(parser.parse_args().rides)
    rng, model, n = np.random.default_rng(1), interval_bundle().model, len(loaded)
    rides = records_of(rng, [(str(i), data) for i, data in enumerate(ride_events(loaded, range(n)))], HOUR.start_s)
    predictions = predictions_of(rides, model)
    steps = np.cumsum(rng.integers(1, _MAX_STEP, n)).tolist()
    streams = {
        RIDES: rides,
        PREDICTIONS: [
            archived_record(one.envelope.data, one.envelope.arrival_time_s, step, key=one.envelope.partition_key)
            for one, step in zip(predictions, steps, strict=True)
        ],
        OUTCOMES: records_of(rng, outcome_entries(loaded), (HOUR + 1).start_s),
    }
    s3 = MemoryS3()
    for kind, records in streams.items():
        archive(s3, kind, records, N_FULL_BATCH)
        part = records[:N_FULL_BATCH]
        us = best_s(lambda part=part: zlib.compress(encode_lines(part), GZIP_LEVEL)) / len(part) * 1e6  # type: ignore[misc]
        n_bytes = sum(map(len, s3.bodies(f"{PREFIX}/{kind}/")))
        _write(f"{kind}: {us:.1f} us and {n_bytes / n:.1f} bytes a record")
    bucket = Bucket(s3, "b", n_threads=1)
    scan = by_ride_key(lambda _: False)
    us = best_s(lambda: list(ArchiveReader(bucket).read(OUTCOMES, HOUR + 1, scan))) / n * 1e6
    _write(f"an outcome of no ride: {us:.2f} us")
    join_hour(bucket, HOUR, _ONE_THREAD, load=lambda _: model)
    _write(f"a labelled ride: {len(s3.objects[labelled_key(HOUR)]) / n:.1f} bytes")
    steady = MemoryS3()
    archive_steady_stream(steady, model, n, n_hours=3)
    stream = Bucket(steady, "b", n_threads=1)
    seconds = best_s(lambda: join_hour(stream, HOUR, _ONE_THREAD, load=lambda _: model))
    _write(f"join: {seconds / n * 1e6:.1f} s a million rides")
    n_bytes = sum(listed.n_bytes for listed in stream.list_objects(f"{PREFIX}/{RIDES}/{HOUR.partition}/"))
    in_parts = JoinOptions(threads=1, bytes_per_part=n_bytes // 3)
    seconds = best_s(lambda: join_hour(stream, HOUR, in_parts, load=lambda _: model))
    _write(f"join in parts: {seconds / n * 1e6:.1f} s a million rides")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
