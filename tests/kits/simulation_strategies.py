"""Hypothesis strategies for simulations: arrivals, faults and options."""

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from infra.local.demo.replay import MALFORMED
from infra.local.event_source.config import MappingConfig
from infra.local.simulation.simulation import BUCKET, SimulationOptions
from lambda_function.core.kpl import pack
from tests.builders import STREAM, ride_bytes
from tests.kits.faults import (
    At,
    Cut,
    Damaged,
    DeliveredTwice,
    Fault,
    JumpClock,
    MergeShards,
    Place,
    Refused,
    RollBack,
    ServeModel,
    Slow,
    SplitShard,
)
from tests.outcomes import AnswerLost, EntriesRefused, Problem

HOUR_S = 3600.0

# -- arrivals

RIDES = tuple(ride_bytes(number, trip_distance=number + 0.5, pickup_datetime=None) for number in range(6))
BAD = (b"not a ride", *MALFORMED)


def aggregate(datas: Iterable[bytes]) -> bytes:
    """Pack ride events as a producer's KPL does."""
    (packed,) = pack([(str(number), data) for number, data in enumerate(datas)], n_groups=1)
    return packed.data


ONE = st.sampled_from(RIDES) | st.sampled_from(BAD)
AGGREGATES = st.lists(ONE, min_size=1, max_size=3).map(aggregate)
DAMAGED = AGGREGATES.map(lambda data: data[:-1])
ENTRIES = st.tuples(st.sampled_from("abcde"), ONE | ONE | AGGREGATES | DAMAGED)
ARRIVALS = st.lists(st.lists(ENTRIES, min_size=1, max_size=12), min_size=1, max_size=6)
"""The entries of each send; the mapping polls after each send."""

# -- faults

N_USUAL_CALLS = {
    Place.SENT: 5,
    Place.PUT_INPUT: 6,
    Place.READ_INPUT: 20,
    Place.INVOKE: 8,
    Place.PUT_OUTPUT: 10,
    Place.S3_GET: 8,
    Place.S3_PUT: 6,
    Place.SEND: 2,
    Place.ARCHIVE_READ: 20,
    Place.ARCHIVE_INVOKE: 6,
    Place.ARCHIVE_PUT: 8,
}


def at(place: Place, faults: st.SearchStrategy[Fault]) -> st.SearchStrategy[list[At]]:
    """One fault, or the same fault several times in a row, as in an outage."""
    starts = st.integers(0, N_USUAL_CALLS[place])
    return st.builds(
        lambda start, n_calls, fault: [At(place, start + n, fault) for n in range(n_calls)],
        starts,
        st.sampled_from([1, 1, 2, 5]),
        faults,
    )


def together(faults: st.SearchStrategy[list[At]], max_size: int) -> st.SearchStrategy[list[At]]:
    return st.lists(faults, min_size=1, max_size=max_size).map(lambda lists: [one for some in lists for one in some])


def refused(*problems: Problem) -> st.SearchStrategy[Fault]:
    return st.builds(Refused, st.sampled_from(problems))


def lost(*problems: Problem, after_s: tuple[float, ...] = (0.0, 5.0)) -> st.SearchStrategy[Fault]:
    return st.builds(AnswerLost, st.sampled_from(problems), st.sampled_from(after_s))


def slow(*seconds: float) -> st.SearchStrategy[Fault]:
    return st.builds(Slow, st.sampled_from(seconds))


LOST = (Problem.NO_ANSWER, Problem.UNREACHABLE)
PASSING = (Problem.THROTTLED, Problem.INTERNAL, Problem.DOWN, *LOST)
REFUSED_FOR_NOW = refused(*LOST, Problem.DOWN, Problem.DENIED)
FOR_SOME: st.SearchStrategy[Fault] = st.builds(
    EntriesRefused,
    st.builds(lambda first, every: range(first, 500, every), st.integers(0, 2), st.integers(1, 3)),
    st.sampled_from([Problem.THROTTLED, Problem.INTERNAL]),
)
STATE_FAULTS: st.SearchStrategy[Fault] = st.one_of(
    st.builds(SplitShard, st.integers(0, 3)),
    st.builds(MergeShards, st.integers(0, 3)),
    st.builds(ServeModel, st.integers(0, 1)),
    st.builds(RollBack, st.integers(0, 1)),
    st.sampled_from([JumpClock(13 * HOUR_S), JumpClock(70.0), JumpClock(-HOUR_S, wall_only=True)]),
)


def some_put_and_then_denied() -> st.SearchStrategy[list[At]]:
    """A request that is partly stored, followed by one that usually fails for good."""
    first = at(Place.PUT_OUTPUT, FOR_SOME).map(lambda faults: faults[0])
    return st.builds(
        lambda one, problem: [one, At(Place.PUT_OUTPUT, one.position + 1, Refused(problem))],
        first,
        st.sampled_from([Problem.DENIED, Problem.DENIED, Problem.THROTTLED]),
    )


BEFORE_ANY_WRITE = st.one_of(
    at(Place.SENT, STATE_FAULTS),
    at(Place.PUT_INPUT, refused(*PASSING) | lost(*LOST) | FOR_SOME),
    at(Place.READ_INPUT, refused(*PASSING, Problem.EXPIRED) | lost(*LOST) | slow(1.0)),
    at(Place.INVOKE, refused(Problem.DIED) | slow(1.0, HOUR_S)),
    at(Place.S3_PUT, REFUSED_FOR_NOW),
    at(Place.SEND, REFUSED_FOR_NOW),
    at(Place.S3_GET, refused(*LOST, Problem.DENIED, Problem.NO_SUCH_KEY) | st.just(Damaged()) | slow(5.0, 100.0)),
)
"""Faults before the function has written anything: rejects are its first writes."""

AFTER_A_WRITE = st.one_of(
    at(Place.PUT_OUTPUT, refused(*PASSING, Problem.DIED) | slow(1.0, 50.0, 100.0)),
    at(Place.PUT_OUTPUT, refused(Problem.DENIED)),
    at(Place.INVOKE, lost(Problem.DIED, after_s=(0.0, HOUR_S)) | st.just(DeliveredTwice())),
    at(Place.INVOKE, st.builds(Cut, st.integers(1, 5))),
    at(Place.PUT_OUTPUT, lost(*LOST, Problem.INTERNAL, Problem.DIED)),
    some_put_and_then_denied(),
    at(Place.S3_PUT, lost(*LOST) | slow(5.0, 100.0)),
    at(Place.SEND, lost(*LOST) | slow(2.0, 100.0)),
)
CLEAN_FAULTS = together(BEFORE_ANY_WRITE, max_size=10)
REFUSALS = together(
    st.one_of(
        at(Place.S3_PUT, REFUSED_FOR_NOW),
        at(Place.SEND, REFUSED_FOR_NOW),
        at(Place.PUT_OUTPUT, REFUSED_FOR_NOW | FOR_SOME),
        at(Place.PUT_OUTPUT, refused(Problem.DENIED)),
        some_put_and_then_denied(),
    ),
    max_size=14,
)
"""Calls that are not done, and say so: no answer is lost, and no function ends."""

FAULTS = together(BEFORE_ANY_WRITE | AFTER_A_WRITE | AFTER_A_WRITE, max_size=14)

ARCHIVE_FAULTS = together(
    st.one_of(
        at(Place.ARCHIVE_READ, refused(*PASSING, Problem.EXPIRED) | lost(*LOST)),
        at(Place.ARCHIVE_INVOKE, refused(Problem.DIED) | lost(Problem.DIED) | st.just(DeliveredTwice())),
        at(Place.ARCHIVE_PUT, REFUSED_FOR_NOW | lost(*LOST) | slow(5.0, 100.0)),
    ),
    max_size=6,
)

# -- options


def mapping_config(**properties: Any) -> MappingConfig:
    config = {"batch_size": 6, "on_failure_bucket": BUCKET, "report_batch_item_failures": True, "bisect_on_error": True}
    return MappingConfig(STREAM, **{**config, **properties})


def options_with(mappings: st.SearchStrategy[MappingConfig]) -> st.SearchStrategy[SimulationOptions]:
    return st.builds(
        SimulationOptions,
        mapping=mappings,
        n_shards=st.integers(1, 3),
        output_format=st.sampled_from(["json", "kpl"]),
        output_groups=st.integers(1, 2),
    )


BATCHING: dict[str, st.SearchStrategy[Any]] = {
    "batch_size": st.integers(1, 10),
    "batching_window_s": st.sampled_from([0.0, 2.0]),
    "bisect_on_error": st.booleans(),
    "parallelization_factor": st.integers(1, 3),
}
PATIENT = options_with(st.builds(mapping_config, **BATCHING))
"""Mappings without limits of retries and age."""

ANY_OPTIONS = options_with(
    st.builds(
        mapping_config,
        **BATCHING,
        maximum_retry_attempts=st.sampled_from([-1, 0, 0, 1, 3]),
        maximum_record_age_s=st.sampled_from([-1, 60, 12 * 3600]),
    )
)
