"""The faults of a soak: at each place one every n calls, in turn, and changes of the simulation's state."""

from collections.abc import Iterator, Sequence

from tests.kits.faults import (
    At,
    Calibrate,
    Cut,
    Damaged,
    DeliveredTwice,
    EndSplit,
    Fault,
    JumpClock,
    MergeShards,
    Place,
    Refused,
    RollBack,
    ServeModel,
    Slow,
    SplitRides,
    SplitShard,
    StopCalibration,
)
from tests.outcomes import AnswerLost, EntriesRefused, Problem

N_STEPS = 250
"""Steps of a soak of any size, so that the same calls have the same faults."""

N_MODELS = 3

_N_CALLS = 20 * N_STEPS  # more than any place sees
_BEYOND_RECORD_AGE_S = 25 * 3600.0
_FAILED_BATCH_AT = 401

_EVERY_2ND, _EVERY_3RD, _EVERY_5TH = (range(500)[first::every] for first, every in ((1, 2), (0, 3), (0, 5)))
"""Positions of entries in a PutRecords."""

_IN_TURN: dict[Place, tuple[int, Sequence[Fault]]] = {
    Place.PUT_INPUT: (
        17,
        (
            EntriesRefused(_EVERY_3RD),
            Refused(Problem.THROTTLED),
            AnswerLost(),
            Refused(Problem.INTERNAL),
        ),
    ),
    Place.READ_INPUT: (
        23,
        (Refused(Problem.THROTTLED), Refused(Problem.EXPIRED), AnswerLost(), Refused(Problem.DOWN)),
    ),
    Place.INVOKE: (
        19,
        (
            AnswerLost(Problem.DIED),
            Cut(7),
            Refused(Problem.DIED),
            DeliveredTwice(),
            AnswerLost(Problem.DIED, after_s=60),
        ),
    ),
    Place.PUT_OUTPUT: (
        13,
        (
            EntriesRefused(_EVERY_5TH),
            AnswerLost(Problem.NO_ANSWER, after_s=5),
            Refused(Problem.THROTTLED),
            EntriesRefused(_EVERY_2ND, Problem.INTERNAL),
            Refused(Problem.DIED),
            Refused(Problem.DENIED),
            Slow(40),
            AnswerLost(Problem.DIED),
            EntriesRefused(),
        ),
    ),
    Place.S3_GET: (7, (Damaged(), Refused(Problem.DOWN), Slow(3), Refused(Problem.NO_SUCH_KEY))),
    Place.S3_PUT: (11, (Refused(Problem.DOWN), AnswerLost(), Slow(3), Refused(Problem.NO_ANSWER))),
    Place.SEND: (3, (Refused(Problem.DOWN), AnswerLost(), Slow(2))),
    Place.ARCHIVE_READ: (
        29,
        (Refused(Problem.THROTTLED), Refused(Problem.EXPIRED), AnswerLost(), Refused(Problem.DOWN)),
    ),
    Place.ARCHIVE_INVOKE: (13, (AnswerLost(Problem.DIED), Refused(Problem.DIED), DeliveredTwice())),
    Place.ARCHIVE_PUT: (7, (Refused(Problem.DOWN), AnswerLost(), Refused(Problem.NO_ANSWER))),
}
_AT_SHARE_OF_STEPS: Sequence[tuple[float, Fault]] = (
    (0.1, SplitRides(1)),
    (0.15, SplitRides(1)),
    (0.2, SplitShard(1)),
    (0.25, Calibrate()),
    (0.3, ServeModel(1)),
    (0.35, Calibrate()),
    (0.4, Calibrate()),
    (0.5, JumpClock(_BEYOND_RECORD_AGE_S)),
    (0.6, MergeShards(0)),
    (0.65, ServeModel(2)),
    (0.68, SplitRides(0)),
    (0.7, Calibrate()),
    (0.75, StopCalibration()),
    (0.8, EndSplit()),
    (0.82, SplitRides(1)),
    (0.85, RollBack(0)),
    (0.9, JumpClock(-3600, wall_only=True)),
)


def plan() -> Iterator[At]:
    """Return the faults of a soak.

    Two of them last longer than the maximum record age: one before the function processes the records, one after.
    """
    for place, (every, faults) in _IN_TURN.items():
        for n, position in enumerate(range(every, _N_CALLS, every)):
            yield At(place, position, faults[n % len(faults)])
    yield At(Place.INVOKE, _FAILED_BATCH_AT, AnswerLost(Problem.DIED, _BEYOND_RECORD_AGE_S))
    for share, fault in _AT_SHARE_OF_STEPS:
        yield At(Place.SENT, round(share * N_STEPS), fault)
