"""After any faults, and after redrives and replays that are interrupted and repeated, a consumer has each ride once.

The consumer upserts by prediction id. Nothing is put onto the input stream.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.simulation.simulation import BUCKET, SimulationOptions
from infra.operate.consumer import SqliteTable, consume
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.queue import empty_queue
from infra.operate.redrive.redrive import Redrive
from infra.operate.redrive.selection import FAILURES, REJECTS
from infra.operate.replayer import Replayer
from infra.operate.stream_replay import ReplayState, StreamReplay
from infra.operate.streams import Timing
from lambda_function.core.records import Entry
from tests.builders import small_bundle
from tests.builders_failed import FUNCTION_ARN, Countdown, Mortal, ProcessEnd
from tests.fakes_lambda import FakeLambda
from tests.kits.faults import At, Place
from tests.kits.simulation import Account, alone, run
from tests.kits.simulation_strategies import ANY_OPTIONS, ARRIVALS, FAULTS, RIDES, mapping_config
from tests.outcomes import AnswerLost, Problem
from training.errors import UserError
from training.registry.bucket import Bucket

pytestmark = pytest.mark.slow  # simulations of seconds

INTERRUPTIONS = st.lists(st.builds(Countdown, st.integers(0, 20), st.booleans()), max_size=4)
CHUNK = 3
N_ATTEMPTS = 50  # faults that are left may end some

Step = Callable[[Account, Countdown], None]


def redrive(account: Account, countdown: Countdown) -> None:
    """Redrive all rejects and failed batches once."""
    simulation = account.simulation
    bucket = Bucket(Mortal(simulation.bucket, countdown), BUCKET, n_threads=1)
    marks = Marks(bucket)
    marks.load(marks.keys())
    empty_queue(Mortal(simulation.queue, countdown), simulation.queue.url, bucket)
    for kind in (FAILURES, REJECTS):
        run = Redrive(marks, lambda _: replayer(account, countdown), rate_per_s=CHUNK, timing=timing(account))
        run.run(kind.read(bucket, kind.keys(bucket)))


def replay(account: Account, countdown: Countdown) -> None:
    """Replay the whole input stream once."""
    since, until = datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(2**33, UTC)
    state = ReplayState(account.simulation.input.name, since, until)
    kinesis = Mortal(account.simulation.input, countdown)
    run = StreamReplay(kinesis, replayer(account, countdown), state, CHUNK, timing(account))
    for _ in run.run():
        pass


def timing(account: Account) -> Timing:
    return Timing(account.simulation.clock.monotonic, account.simulation.clock.sleep)


def replayer(account: Account, countdown: Countdown) -> Replayer:
    client = FakeLambda(account.simulation.function)
    return Replayer(Mortal(client, countdown), FUNCTION_ARN, timing(account))


def repeated(account: Account, step: Step, interruptions: list[Countdown]) -> None:
    """Run a step with each interruption, and then until it is completed."""
    for countdown in interruptions:
        with suppress(ProcessEnd, UserError):
            step(account, countdown)
    for _ in range(N_ATTEMPTS):
        with suppress(UserError):
            step(account, Countdown())
            return
    raise AssertionError("it is never completed")


def rows(account: Account) -> dict[str, bytes]:
    """What a consumer holds that has read the output stream."""
    shards = account.simulation.output.shards.values()
    records = [(record["SequenceNumber"], record["Data"]) for shard in shards for record in shard.records]
    with SqliteTable(":memory:") as table:
        assert consume(records, table).n_unreadable == 0
        return {row.prediction_id: row.data for row in table}


def check(account: Account, n_put: int) -> None:
    """Check that every ride has one prediction, and every other event a reject."""
    parts, held = account.parts(), rows(account)
    assert held.keys() == {identity for identity, part in parts.items() if part.data in RIDES}
    assert account.rejected().keys() == parts.keys() - held.keys()
    expected = [alone(account.arrived(), bundle) for bundle in (small_bundle(), small_bundle(seed=2))]
    assert all(data in {one[prediction_id] for one in expected} for prediction_id, data in held.items())
    assert account.simulation.input.n_put == n_put


MODERATELY = settings(max_examples=min(100, settings().max_examples))  # an example takes 60 ms


@pytest.mark.parametrize("step", [redrive, replay])
@MODERATELY
@given(ARRIVALS, ANY_OPTIONS, FAULTS, INTERRUPTIONS)
def test_redrive_and_replay_converge(
    step: Step,
    arrivals: list[list[Entry]],
    options: SimulationOptions,
    faults: list[At],
    interruptions: list[Countdown],
) -> None:
    account = run(arrivals, options, faults)
    n_put = account.simulation.input.n_put
    repeated(account, step, interruptions)
    check(account, n_put)


@pytest.mark.parametrize("step", [redrive, replay])
def test_batch_that_failed_although_it_was_published_changes_nothing_when_it_comes_again(step: Step) -> None:
    options = SimulationOptions(mapping=mapping_config(maximum_retry_attempts=0, bisect_on_error=False))
    lost = [At(Place.INVOKE, 0, AnswerLost(Problem.DIED))]
    account = run([[(str(n), ride) for n, ride in enumerate(RIDES)]], options, lost)
    before, n_published = rows(account), len(account.published())
    assert set(account.failed()) == set(before) != set()
    step(account, Countdown())
    assert rows(account) == before
    assert len(account.published()) == 2 * n_published
    check(account, len(RIDES))
