"""The mapping across splits and merges: children wait until their parents are done, and no shard is missed."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeKinesis
from tests.kits.mapping import (
    Respond,
    ScriptedFunction,
    drain,
    fail,
    make_mapping,
    report,
    run,
    stream,
    succeed,
)
from tests.outcomes import Problem


def test_children_wait_until_the_last_record_of_their_parent_is_settled() -> None:
    kinesis = stream(b"parent")
    kinesis.split_shard(0)
    kinesis.put(b"child", shard=1)
    function = ScriptedFunction([fail] * 3)

    run(kinesis, function)

    assert function.batches() == [["parent"]] * 4 + [["child"]]


def test_child_of_a_merge_waits_for_both_parents() -> None:
    kinesis = FakeKinesis(n_shards=2)
    kinesis.put(b"one parent", shard=0)
    kinesis.put(b"other parent", shard=1)
    kinesis.merge_shards(0, 1)
    kinesis.put(b"child", shard=2)
    function = ScriptedFunction([succeed] + [fail] * 3)

    run(kinesis, function)

    assert function.batches() == [["one parent"]] + [["other parent"]] * 4 + [["child"]]


def test_split_while_the_mapping_runs_is_followed_as_soon_as_the_parent_has_ended() -> None:
    kinesis = FakeKinesis()
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function)
    kinesis.put(b"parent")
    mapping.poll_once()
    kinesis.split_shard(0)
    kinesis.put(b"child", shard=2)

    mapping.poll_once()  # the parent's end
    mapping.poll_once()

    assert function.batches() == [["parent"], ["child"]]


def test_new_children_are_read_from_their_beginning_by_a_mapping_that_began_at_latest() -> None:
    kinesis = stream(b"old")
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, starting_position="LATEST")
    kinesis.put(b"parent")
    kinesis.split_shard(0)
    kinesis.put(b"child", shard=1)

    drain(mapping, kinesis.clock)

    assert function.batches() == [["parent"], ["child"]]


def test_latest_skips_records_of_children_older_than_the_mapping() -> None:
    kinesis = FakeKinesis()
    kinesis.split_shard(0)
    kinesis.put(b"old", shard=1)
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, starting_position="LATEST")
    kinesis.put(b"new", shard=1)

    drain(mapping, kinesis.clock)

    assert function.batches() == [["new"]]


class UnlistedKinesis(FakeKinesis):
    """A stream whose listings of shards fail `n_failures` times after the first."""

    n_failures = 0

    def list_shards(self, **request: Any) -> dict[str, Any]:
        """List shards, or fail."""
        if self.calls("list_shards") and self.n_failures:
            self.n_failures -= 1
            raise Problem.DOWN.error()
        return super().list_shards(**request)


def test_new_shards_are_found_after_listings_that_failed() -> None:
    kinesis = UnlistedKinesis()
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function)
    kinesis.n_failures = 2
    kinesis.split_shard(0)
    kinesis.put(b"child", shard=1)

    drain(mapping, kinesis.clock, n_idle_rounds=30)

    assert function.batches() == [["child"]]


def test_known_children_need_no_further_listing() -> None:
    kinesis = UnlistedKinesis()
    kinesis.split_shard(0)
    kinesis.put(b"child", shard=1)
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function)
    kinesis.n_failures = 1_000

    drain(mapping, kinesis.clock, n_idle_rounds=30)

    assert function.batches() == [["child"]]


scripts = st.lists(
    st.sampled_from([fail, succeed, report(0), report(1), report(-1)]),
    max_size=20,
)
actions = st.lists(st.sampled_from(["put", "put", "put", "split", "merge", "poll"]), max_size=40)


@settings(deadline=None)
@given(actions=actions, script=scripts, factor=st.integers(1, 3))
def test_each_key_is_delivered_in_order_across_any_splits_and_merges(
    actions: list[str], script: list[Respond], factor: int
) -> None:
    kinesis = FakeKinesis(n_shards=2)
    function = ScriptedFunction(script)
    mapping = make_mapping(kinesis, function, parallelization_factor=factor)
    sent: dict[str, list[str]] = {}
    for i, action in enumerate(actions):
        open_shards = [n for n, shard in enumerate(kinesis.shards.values()) if shard.is_open]
        in_order = sorted(open_shards, key=lambda n: list(kinesis.shards.values())[n].first_hash_key)
        match action:
            case "put":
                for key in ("a", "b", "c", "d"):
                    kinesis.put(f"{key}{i}".encode(), partition_key=key)
                    sent.setdefault(key, []).append(f"{key}{i}")
            case "split":
                kinesis.split_shard(in_order[i % len(in_order)])
            case "merge" if len(in_order) > 1:
                kinesis.merge_shards(*in_order[:2])
            case _:
                mapping.poll_once()

    drain(mapping, kinesis.clock, n_idle_rounds=60)

    done: dict[str, list[str]] = {}
    for key, ride in function.done:
        done.setdefault(key, []).append(ride)
    assert done == sent
