"""The promise of the archive: all that is on the three streams is in it, whatever faults, batches and reshards."""

import gzip
from dataclasses import replace

import pytest
from hypothesis import given, settings

from infra.local.event_source.config import MappingConfig
from infra.local.simulation.kinesis import MemoryStream
from infra.local.simulation.simulation import BUCKET, OUTCOME_STREAM, OUTPUT_STREAM, SimulationOptions
from infra.operate.lambda_event import lambda_records
from lambda_function.core.archive_lines import PREFIX, decode_lines
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.records import KINDS, OUTCOMES, PREDICTIONS, RIDES, Entry
from tests.builders import STREAM, STREAM_ARN, small_bundle
from tests.kits.faults import At, FaultSchedule, FaultySimulation
from tests.kits.simulation import PATIENCE_S, data_of, parts_of
from tests.kits.simulation_strategies import ARCHIVE_FAULTS, ARRIVALS, FAULTS, PATIENT

pytestmark = pytest.mark.slow  # simulations of seconds

STREAMS = {RIDES: STREAM, PREDICTIONS: OUTPUT_STREAM, OUTCOMES: OUTCOME_STREAM}
BATCHING = MappingConfig("", batch_size=4, batching_window_s=3.0, bisect_on_error=True, on_failure_bucket=BUCKET)
ARCHIVE = {kind: replace(BATCHING, stream_name=stream) for kind, stream in STREAMS.items()}
OUTCOME_ENTRIES = [(str(ride), encode_outcome(Outcome(ride, 1.5 + ride))) for ride in range(3)]


def parts_on(stream: MemoryStream) -> dict[str, bytes]:
    """Return the bytes of each part that is on a stream, by id."""
    shards = stream.shards.values()
    records = [one for shard in shards for one in lambda_records(shard.records, shard.shard_id, STREAM_ARN)]
    return {name: part for record in records for name, part in parts_of(record["eventID"], data_of(record))}


def archived(simulation: FaultySimulation, kind: str) -> set[tuple[str, bytes]]:
    """Return id and bytes of each part of a kind in the archive; an aggregate of tiny parts is there as it came."""
    bodies = simulation.bucket.bodies(f"{PREFIX}/{kind}/")
    records = [record for body in bodies for record in decode_lines(gzip.decompress(body))]
    return {
        part
        for record in records
        for part in (parts_of(record.id, record.data) if record.id.count(":") == 1 else [(record.id, record.data)])
    }


@settings(max_examples=min(50, settings().max_examples))  # an example takes 50 ms
@given(ARRIVALS, PATIENT, FAULTS, ARCHIVE_FAULTS)
def test_all_records_of_the_three_streams_are_archived_with_their_bytes(
    arrivals: list[list[Entry]], options: SimulationOptions, faults: list[At], archive_faults: list[At]
) -> None:
    schedule = FaultSchedule([*faults, *archive_faults])
    simulation = FaultySimulation([small_bundle(), small_bundle(seed=2)], replace(options, archive=ARCHIVE), schedule)
    for entries in arrivals:
        simulation.send(entries)
        simulation.send_outcomes(OUTCOME_ENTRIES)
        simulation.mapping.poll_once()
        simulation.poll_archive()
    assert simulation.settle(PATIENCE_S)
    assert simulation.settle_archive(10 * PATIENCE_S)
    for kind, stream in zip(KINDS, (simulation.input, simulation.output, simulation.outcomes), strict=True):
        assert archived(simulation, kind) == set(parts_on(stream).items())
