"""Several batchers of one shard: each partition key in order, without waiting for the failures of another batcher."""

from infra.local.event_source.shard_consumer import batcher_number
from infra.operate.shards import MAX_RECORDS_PER_READ
from tests.fakes import FakeKinesis
from tests.kits.mapping import ScriptedFunction, drain, make_mapping, poisoned_by, run, stream

FACTOR = 4


def keys_in_different_batchers(n: int) -> list[str]:
    by_batcher: dict[int, str] = {}
    for i in range(100):
        by_batcher.setdefault(batcher_number(str(i), FACTOR), str(i))
    return list(by_batcher.values())[:n]


def test_keys_of_different_batchers_are_in_different_batches_and_take_turns() -> None:
    one, other = keys_in_different_batchers(2)
    kinesis = FakeKinesis()
    for i in range(2):
        kinesis.put(f"one {i}".encode(), partition_key=one)
        kinesis.put(f"other {i}".encode(), partition_key=other)
    function = ScriptedFunction()

    run(kinesis, function, batch_size=1, parallelization_factor=FACTOR)

    firsts, seconds = function.batches()[:2], function.batches()[2:]
    assert sorted(firsts) == [["one 0"], ["other 0"]]
    assert sorted(seconds) == [["one 1"], ["other 1"]]


def test_failing_key_does_not_delay_the_keys_of_other_batchers() -> None:
    bad, good = keys_in_different_batchers(2)
    kinesis = stream(b"bad", b"behind it", partition_key=bad)
    function = poisoned_by("bad")
    mapping = make_mapping(kinesis, function, parallelization_factor=FACTOR)
    mapping.poll_once()
    kinesis.put(b"good", b"better", partition_key=good)

    drain(mapping, kinesis.clock, n_idle_rounds=3)

    assert [ride for _, ride in function.done] == ["good", "better"]


def test_single_batcher_has_all_keys_of_the_shard() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a", partition_key="a")
    kinesis.put(b"b", partition_key="b")
    function = ScriptedFunction()

    make_mapping(kinesis, function, parallelization_factor=1).poll_once()

    assert function.batches() == [["a", "b"]]


def test_batcher_with_a_failed_batch_fills_the_shared_room_and_no_more() -> None:
    bad, good = keys_in_different_batchers(2)
    kinesis = FakeKinesis()
    kinesis.put(b"bad", partition_key=bad)
    kinesis.put(*[b"x"] * (6 * MAX_RECORDS_PER_READ), partition_key=bad)
    kinesis.put(b"good", partition_key=good)
    mapping = make_mapping(kinesis, poisoned_by("bad"), batch_size=10_000, parallelization_factor=FACTOR)

    for _ in range(10):
        mapping.poll_once()

    assert len(kinesis.calls("get_records")) == FACTOR
