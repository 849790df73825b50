"""A soak, run: rides through four shards of a world that misbehaves, step by step, each entered into the ledger."""

import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.simulation.faults import FaultSchedule
from infra.local.simulation.function import BUCKET
from infra.local.simulation.simulation import Simulation, SimulationOptions
from infra.local.stack import Stack
from tests.soak.ledger import SoakLedger
from tests.soak.plan import N_MODELS, N_STEPS, plan
from tests.soak.traffic import Traffic
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS

N_SHARDS = 4
MAX_GROWTH_MB = 20.0

_N_TRAIN_RIDES = 20_000
_POLLS_PER_STEP = 4
_STEP_S = 1.0
_PATIENCE_S = 600.0
_N_MARKS = 10
_MONTH, _NEXT_MONTH = Month(2021, 1), Month(2021, 2)
_NAMES = {"RideEvents": "ride-events", "PredictorAliaslive": "predictor:live", "Bucket": BUCKET}


@dataclass(frozen=True, slots=True)
class SoakReport:
    """What a soak ends with.

    Attributes:
        rides: Ride events sent, malformed ones among them.
        given_up: Events in the failure destination, put there for their age.
        failed_though_done: Those that have a prediction or reject as well: the function's word for it never came.
        repeated: Predictions that came again.
        differing: Those among them with other bytes though the model was the same.
        spoilt: Rejects and given-up events with other bytes than were sent.
        faults: How many struck.
        rss_mb: The process's memory after each tenth of the rides.
    """

    rides: int
    predicted: int
    rejected: int
    given_up: int
    lost: int
    predicted_and_rejected: int
    failed_though_done: int
    repeated: int
    differing: int
    spoilt: int
    invocations: int
    redelivered_records: int
    faults: int
    model_versions: int
    shards: int
    rides_per_s: float
    rss_mb: list[float]

    @property
    def rss_growth_mb(self) -> float:
        """Growth of the process from the first tenth of the rides to the last."""
        return round(self.rss_mb[-1] - self.rss_mb[0], 1)

    @property
    def problems(self) -> list[str]:
        """What is not as promised, a sentence each."""
        broken = {
            f"{self.lost} events are lost": self.lost,
            f"{self.predicted_and_rejected} events are predicted and rejected": self.predicted_and_rejected,
            f"{self.differing} predictions came again with other bytes": self.differing,
            f"{self.spoilt} events were kept with other bytes than were sent": self.spoilt,
            f"memory grew by {self.rss_growth_mb} MB": self.rss_growth_mb >= MAX_GROWTH_MB,
        }
        return [sentence for sentence, is_broken in broken.items() if is_broken]


def fit_models(on_step: Callable[[str], None], parameters: dict[str, Any] = PARAMETERS) -> list[ExportedBundle]:
    """Fits the models that a soak switches between, on made-up rides."""
    rides = synthetic_rides(_MONTH, _N_TRAIN_RIDES, seed=1)
    bundles = []
    for seed in range(1, N_MODELS + 1):
        on_step(f"fitting model {seed} of {N_MODELS} on made-up rides")
        seeded = {**parameters, "random_state": seed}
        facts = TrainingFacts(
            service="green", train_months=(_MONTH,), validate_months=(), parameters=seeded, metrics={}
        )
        bundles.append(export_bundle(fit_forest(rides, seeded), rides, facts))
    return bundles


def run_soak(
    n_events: int, bundles: list[ExportedBundle], output_format: str, on_sent: Callable[[int], None]
) -> SoakReport:
    """Sends so many ride events and accounts for each, as the template's own mapping brings them to the function."""
    schedule = FaultSchedule(plan())
    options = SimulationOptions(
        mapping=Stack().event_source_mapping(_NAMES),
        n_shards=N_SHARDS,
        n_output_shards=N_SHARDS,
        output_format=output_format,
        output_groups=N_SHARDS,
        keeps_all=False,
    )
    world, ledger = Simulation(bundles, options, schedule), SoakLedger(n_events)
    traffic = Traffic(synthetic_rides(_NEXT_MONTH, _N_TRAIN_RIDES, seed=2))
    rss_mb: list[float] = []
    started_s = time.monotonic()
    with _nothing_logged():
        for n_sent in _steps(world, ledger, traffic, n_events):
            on_sent(n_sent)
            if n_sent * _N_MARKS >= n_events * (len(rss_mb) + 1):
                rss_mb.append(resident_mb())
        world.settle(_PATIENCE_S)
        _account(world, ledger)
    seconds = time.monotonic() - started_s
    rss_mb[-1] = resident_mb()
    return _report(world, ledger, schedule, seconds, rss_mb)


def resident_mb() -> float:
    """Returns the memory that this process holds now; where the system does not tell, the most it ever held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return round(int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)  # macOS counts bytes


def _steps(world: Simulation, ledger: SoakLedger, traffic: Traffic, n_events: int) -> Iterator[int]:
    """Sends a step's ride events, lets a second pass, and enters what came out; yields the events sent so far."""
    n_a_step = -(-n_events // N_STEPS)
    for first in range(0, n_events, n_a_step):
        events = traffic.events(first, min(n_a_step, n_events - first))
        ledger.add_sent(events)
        world.send(traffic.entries(first, events))
        for _ in range(_POLLS_PER_STEP):
            world.clock.sleep(_STEP_S / _POLLS_PER_STEP)
            world.poll()
        _account(world, ledger)
        yield ledger.n_sent


def _account(world: Simulation, ledger: SoakLedger) -> None:
    for _, data in world.output.take():
        ledger.add_output(data)
    for body in world.bucket.take("rejects/"):
        ledger.add_rejects(body)
    for body in world.bucket.take("aws/lambda/"):
        ledger.add_failed(body)


def _report(
    world: Simulation, ledger: SoakLedger, schedule: FaultSchedule, seconds: float, rss_mb: list[float]
) -> SoakReport:
    return SoakReport(
        rides=ledger.n_sent,
        predicted=ledger.n_predicted,
        rejected=ledger.n_rejected,
        given_up=ledger.n_failed,
        lost=ledger.n_lost,
        predicted_and_rejected=ledger.n_predicted_and_rejected,
        failed_though_done=ledger.n_failed_though_done,
        repeated=ledger.n_repeated,
        differing=ledger.n_differing,
        spoilt=ledger.n_spoilt,
        invocations=world.mapping.stats.n_invocations,
        redelivered_records=world.mapping.stats.n_redelivered,
        faults=schedule.n_struck,
        model_versions=len(ledger.versions),
        shards=len(world.input.shards),
        rides_per_s=round(ledger.n_sent / seconds, 1),
        rss_mb=rss_mb,
    )


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Keeps what the mapping says of each fault to itself."""
    logger = logging.getLogger("infra")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
