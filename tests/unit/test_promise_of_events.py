"""The promise of events: whatever fails, each move of a channel is announced, and no other."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_monitored import MonitoredStack, monitored_bundle
from tests.outcomes import DENIED, SERVICE_DOWN, AnswerLost
from training.errors import BucketError
from training.registry.channel_history import history_key, read_history

CHANNELS = ("stable", "candidate", "new")
MODELS = (monitored_bundle(1), monitored_bundle(2))


@dataclass(frozen=True)
class Move:
    """A channel takes a model."""

    channel: str
    model: int


@dataclass(frozen=True)
class Run:
    """The monitor runs; its S3 fails at a call, before or after it is done, and its bus at a request.

    Attributes:
        s3_at: The call; beyond the last one of a run, none fails.
        is_done: Whether that call is done, and its answer lost.
        bus: Whether the bus takes all, none, or not the first event of a request.
    """

    s3_at: int = 1_000
    is_done: bool = False
    bus: str = "all"


_BUS: Mapping[str, Sequence[Exception | Sequence[int]]] = {"all": (), "none": (DENIED,), "not the first": ([0],)}

moves = st.builds(Move, st.sampled_from(CHANNELS), st.integers(0, 1))
runs = st.builds(Run, st.integers(0, 25), st.booleans(), st.sampled_from(("all", "none", "not the first")))


def play(stack: MonitoredStack, action: Move | Run) -> None:
    """Do one thing, some minutes after the one before."""
    stack.now += timedelta(minutes=5)
    if isinstance(action, Move):
        stack.serve(MODELS[action.model], stack.now, action.channel)
        return
    fault = AnswerLost() if action.is_done else SERVICE_DOWN
    stack.s3.script = [*[None] * action.s3_at, fault]
    stack.bus.script = list(_BUS[action.bus])
    with suppress(BucketError):
        stack.run()
    stack.s3.script, stack.bus.script = [], []


def announced(stack: MonitoredStack) -> list[str]:
    return [one["event_id"] for one in stack.bus.taken if one["DetailType"] == "ridecast channel move"]


def history(stack: MonitoredStack) -> set[str]:
    return {history_key(name, entry) for name in CHANNELS for entry in read_history(stack.bucket, name)}


@settings(deadline=None)
@given(actions=st.lists(moves | runs, max_size=12))
def test_each_move_is_announced_whatever_fails(actions: list[Move | Run]) -> None:
    stack = MonitoredStack(MODELS[0])
    stack.good_run()
    for action in actions:
        play(stack, action)
    stack.good_run()
    assert set(announced(stack)) == history(stack)
    assert stack.status.pending == ()


@settings(deadline=None)
@given(actions=st.lists(moves | st.just(Run()) | st.just(Run(bus="none")), max_size=12))
def test_while_s3_works_each_move_is_announced_once(actions: list[Move | Run]) -> None:
    stack = MonitoredStack(MODELS[0])
    stack.good_run()
    for action in actions:
        play(stack, action)
    stack.good_run()
    assert sorted(announced(stack)) == sorted(history(stack))
