"""The simulation and its faults: a fault changes its call, at its position only."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from infra.local.runtime.in_process import FunctionTimeoutError
from infra.local.s3 import MemoryS3
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.kinesis import MemoryStream
from infra.local.simulation.simulation import SimulationOptions
from tests.builders import STREAM, invocation, sequence_number, small_bundle
from tests.kits.faults import (
    At,
    Cut,
    Damaged,
    DeliveredTwice,
    Fault,
    FaultSchedule,
    FaultyCalls,
    FaultyKinesis,
    FaultyS3,
    FaultySimulation,
    JumpClock,
    Place,
    Refused,
    ServeModel,
    Slow,
    SplitShard,
    invoke_with,
)
from tests.kits.simulation import Account, run
from tests.kits.simulation_strategies import RIDES, mapping_config
from tests.outcomes import AnswerLost, EntriesRefused, Problem

ONE_MAPPING = SimulationOptions(mapping=mapping_config())


def scheduled(place: Place, fault: Fault) -> FaultSchedule:
    return FaultSchedule([At(place, 0, fault)])


def simulation(place: Place, fault: Fault) -> FaultySimulation:
    return FaultySimulation([small_bundle()], ONE_MAPPING, scheduled(place, fault))


def faulty_stream(fault: Fault, place: Place = Place.PUT_OUTPUT) -> tuple[MemoryStream, FaultyKinesis]:
    clock = SimulatedClock()
    stream = MemoryStream("s", 1, clock.wall)
    calls = FaultyCalls(scheduled(place, fault), clock)
    return stream, FaultyKinesis(stream, calls, Place.PUT_OUTPUT, Place.READ_INPUT)


def put(kinesis: Any, n: int) -> Any:
    return kinesis.put_records(StreamName="s", Records=[{"Data": b"%d" % i, "PartitionKey": "k"} for i in range(n)])


def taken(stream: MemoryStream) -> list[bytes]:
    return [data for _, data in stream.take()]


# -- the schedule


def test_fault_occurs_once_at_its_place_and_position() -> None:
    schedule = FaultSchedule(
        [At(Place.INVOKE, 1, Slow(1)), At(Place.INVOKE, 1, Slow(2)), At(Place.S3_GET, 0, Damaged())]
    )
    assert [schedule.next(Place.INVOKE) for _ in range(4)] == [None, Slow(1), None, None]
    assert schedule.next(Place.S3_GET) == Damaged()
    assert schedule.n_struck == 2


# -- puts and reads


def test_refused_put_stores_nothing_and_the_next_works() -> None:
    stream, kinesis = faulty_stream(Refused(Problem.THROTTLED))
    with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
        put(kinesis, 2)
    assert taken(stream) == []
    assert put(kinesis, 2)["FailedRecordCount"] == 0


def test_put_whose_answer_is_lost_is_stored() -> None:
    stream, kinesis = faulty_stream(AnswerLost(Problem.NO_ANSWER))
    with pytest.raises(ReadTimeoutError):
        put(kinesis, 2)
    assert taken(stream) == [b"0", b"1"]


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        (EntriesRefused(), []),
        (EntriesRefused(range(1, 500, 2)), [0, 2, 4]),
        (EntriesRefused([4]), [0, 1, 2, 3]),
        (EntriesRefused([9]), [0, 1, 2, 3, 4]),
    ],
)
def test_refused_entries_are_reported_by_position_in_a_successful_answer(
    fault: EntriesRefused, stored: list[int]
) -> None:
    stream, kinesis = faulty_stream(fault)
    answer = put(kinesis, 5)
    assert [n for n, result in enumerate(answer["Records"]) if "SequenceNumber" in result] == stored
    assert answer["FailedRecordCount"] == 5 - len(stored)
    assert taken(stream) == [b"%d" % n for n in stored]


def test_fault_of_reads_does_not_affect_puts() -> None:
    _, kinesis = faulty_stream(Refused(Problem.EXPIRED), Place.READ_INPUT)
    put(kinesis, 1)
    with pytest.raises(ClientError, match="ExpiredIterator"):
        kinesis.get_shard_iterator(ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")


def test_fault_that_a_call_cannot_have_is_an_error() -> None:
    _, kinesis = faulty_stream(Damaged())
    with pytest.raises(TypeError, match="Damaged"):
        put(kinesis, 1)
    with pytest.raises(TypeError, match="Slow"):
        simulation(Place.SENT, Slow(1)).send([("a", b"")])


# -- S3


def test_damaged_object_is_read_with_a_wrong_byte_and_unchanged_in_the_bucket() -> None:
    bucket, clock = MemoryS3(), SimulatedClock()
    bucket.put_object(Bucket="b", Key="k", Body=b"12345")
    s3 = FaultyS3(bucket, FaultyCalls(scheduled(Place.S3_GET, Damaged()), clock))
    bodies = [s3.get_object(Bucket="b", Key="k")["Body"].read() for _ in range(2)]
    assert bodies[0] != bodies[1] == b"12345"
    assert len(bodies[0]) == 5


def test_slow_call_takes_time_and_is_done() -> None:
    bucket, clock = MemoryS3(), SimulatedClock()
    FaultyS3(bucket, FaultyCalls(scheduled(Place.S3_PUT, Slow(3)), clock)).put_object(Bucket="b", Key="k", Body=b"")
    assert clock.monotonic() == 3
    assert list(bucket.objects) == ["k"]


# -- the function


def reported(position: int) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": sequence_number(position)}]}


@pytest.mark.parametrize(
    ("fault", "response", "sizes", "answer"),
    [
        (DeliveredTwice(), None, [3, 3], None),
        (Cut(2), None, [2], reported(2)),
        (Cut(2), reported(1), [2], reported(1)),
        (Cut(3), None, [3], None),
        (Slow(1), reported(0), [3], reported(0)),
    ],
    ids=str,
)
def test_fault_changes_the_delivered_batch(fault: Fault, response: object, sizes: list[int], answer: object) -> None:
    delivered: list[int] = []

    def function(event: dict[str, Any]) -> object:
        delivered.append(len(event["Records"]))
        return response

    calls = FaultyCalls(FaultSchedule(), SimulatedClock())
    assert invoke_with(fault, function, invocation(*RIDES[:3]), calls) == answer
    assert delivered == sizes


@pytest.mark.parametrize("place", [Place.S3_GET, Place.PUT_OUTPUT])
def test_function_that_sleeps_past_its_deadline_is_killed(place: Place) -> None:
    slow = simulation(place, Slow(61))
    with pytest.raises(FunctionTimeoutError):
        slow.function(invocation(RIDES[0]))
    assert slow.clock.monotonic() == 60
    assert slow.function(invocation(RIDES[0])) == {"batchItemFailures": []}


def test_function_whose_process_ended_predicts_the_record_again_by_the_model_of_its_arrival() -> None:
    first_seen = [At(Place.INVOKE, 0, AnswerLost(Problem.DIED)), At(Place.SENT, 1, ServeModel(1))]
    account = run([[("a", RIDES[0])], [("b", RIDES[1])]], ONE_MAPPING, first_seen)
    versions = [set(by_version) for by_version in account.predicted().values()]
    assert versions == [{small_bundle().model_version}] * 2  # the second ride arrives within the activation delay


# -- the simulation's state


def test_records_after_a_split_go_to_the_children_and_all_are_delivered() -> None:
    account = run([[("a", RIDES[0])], [("a", RIDES[1])]], ONE_MAPPING, [At(Place.SENT, 0, SplitShard())])
    assert len({event_id.partition(":")[0] for event_id in account.confirmed}) == 2
    assert len(account.simulation.input.shards) == 3


@pytest.mark.parametrize(
    ("jump", "n_failed"),
    [(JumpClock(61), 1), (JumpClock(61, wall_only=True), 1), (JumpClock(-61, wall_only=True), 0)],
)
def test_records_get_older_by_a_jump_of_the_clock(jump: JumpClock, n_failed: int) -> None:
    options = SimulationOptions(mapping=mapping_config(maximum_record_age_s=60))
    account: Account = run([[("a", RIDES[0])]], options, [At(Place.SENT, 0, jump)])
    assert account.failed().total() == n_failed


def test_stream_without_keeping_drops_records_that_were_read_before() -> None:
    stream = MemoryStream("s", 1, SimulatedClock().wall, keeps_read=False)
    put(stream, 5)
    (shard,) = stream.shards.values()
    iterator = stream.get_shard_iterator(ShardId=shard.shard_id, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    pages: list[list[bytes]] = []
    while len(pages) < 3:
        answer = stream.get_records(ShardIterator=iterator, Limit=2)
        pages.append([record["Data"] for record in answer["Records"]])
        iterator = answer["NextShardIterator"]
    assert pages == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
    assert [record["Data"] for record in shard.records] == [b"4"]


def test_stream_with_several_readers_drops_what_all_of_them_have_read() -> None:
    stream = MemoryStream("s", 1, SimulatedClock().wall, keeps_read=False, n_readers=2)
    put(stream, 3)
    (shard,) = stream.shards.values()
    start = stream.get_shard_iterator(ShardId=shard.shard_id, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    other = stream.reader(1)
    after_two = other.get_records(ShardIterator=start, Limit=2)["NextShardIterator"]
    other.get_records(ShardIterator=after_two)
    assert len(shard.records) == 3

    assert [data for _, data in stream.take()] == [b"0", b"1", b"2"]
    assert [record["Data"] for record in shard.records] == [b"2"]
    put(stream, 1)
    assert [data for _, data in stream.take()] == [b"0"]
    assert [one["Data"] for one in other.get_records(ShardIterator=after_two)["Records"]] == [b"2", b"0"]


def test_stream_refuses_what_kinesis_refuses() -> None:
    stream = MemoryStream(STREAM, 1, SimulatedClock().wall)
    for records in ([{"Data": b"", "PartitionKey": ""}], [{"Data": b"", "PartitionKey": "k"}] * 501, []):
        with pytest.raises(ClientError, match="ValidationException"):
            stream.put_records(StreamName=STREAM, Records=records)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        put(stream, 1)
