"""A mapping goes on where an earlier one of the same function has ended."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeKinesis
from tests.kits.mapping import ScriptedFunction, drain, fail, make_mapping, report, rides, succeed


@given(
    n_polls=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    script=st.lists(st.sampled_from([succeed, fail, report(0), report(1)]), max_size=8),
    factor=st.sampled_from([1, 2]),
    is_resharded=st.booleans(),
)
def test_mappings_that_end_at_any_moment_lose_nothing_and_repeat_nothing_that_is_settled(
    n_polls: list[int], script: list[object], factor: int, is_resharded: bool
) -> None:
    kinesis, function = FakeKinesis(), ScriptedFunction(script)  # type: ignore[arg-type]
    for key in ("a", "b"):
        kinesis.put(*(f"{key} {i}".encode() for i in range(10)), partition_key=key)
    if is_resharded:
        kinesis.split(0)
        kinesis.put(b"a 10", partition_key="a")
    positions: dict[str, str] = {}
    for n in n_polls:
        mapping = make_mapping(kinesis, function, positions=positions, parallelization_factor=factor)
        for _ in range(n):
            mapping.poll_once()
            kinesis.clock.advance(1.0)
        positions = mapping.positions
    drain(make_mapping(kinesis, function, positions=positions, parallelization_factor=factor), kinesis.clock)

    expected = [f"a {i}" for i in range(11 if is_resharded else 10)]
    done = [text for key, text in function.done if key == "a"]
    assert list(dict.fromkeys(done)) == expected  # in order
    if factor == 1:
        assert done == expected


def test_a_shard_that_has_ended_is_not_read_again() -> None:
    kinesis, function = FakeKinesis(), ScriptedFunction()
    kinesis.put(*rides(5))
    kinesis.split(0)
    first = make_mapping(kinesis, function)
    drain(first, kinesis.clock)

    drain(make_mapping(kinesis, function, positions=first.positions), kinesis.clock)

    assert len(function.done) == 5
