"""Run a soak: rides through four shards of a simulation with faults, each recorded in the ledger."""

import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, cast

from infra.local.s3 import MemoryS3
from infra.local.simulation.simulation import BUCKET, CHANNEL, OUTCOME_STREAM, OUTPUT_STREAM, SimulationOptions
from infra.local.stack import Stack
from infra.operate.joining import archived_hours
from infra.operate.redrive.records import decode_failure
from infra.operate.redrive.selection import FAILURES
from lambda_function.aws.rejects import PREFIX as REJECTS_PREFIX
from lambda_function.core.archive_lines import PREFIX
from tests.kits.batches import queued_objects
from tests.kits.faults import FaultSchedule, FaultySimulation
from tests.soak.bodies import BodiesInFile
from tests.soak.judge import Judge
from tests.soak.ledger import SoakLedger
from tests.soak.plan import N_MODELS, N_STEPS, plan
from tests.soak.traffic import Traffic
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.registry.channel_history import read_history

N_SHARDS = 4
MAX_GROWTH_MB = 40.0
"""Three environments load two more models each during the soak, of 4.5 MB: 27 MB. Measured: 10 to 18 MB."""

_LEAST_LABELLED = 0.45  # every other ride has an outcome
_N_TRAIN_RIDES = 20_000
_POLLS_PER_STEP = 4
_STEP_S = 4.0  # so that promotions serve within the soak
_PATIENCE_S = 600.0
_N_MARKS = 10
_MONTH, _NEXT_MONTH = Month(2021, 1), Month(2021, 2)
_NAMES = {
    "Archiver": "ridecast-Archiver-1",
    "Bucket": BUCKET,
    "PredictorAliaslive": "predictor:live",
    "RideEvents": "ride-events",
    "RideOutcomes": OUTCOME_STREAM,
    "RidePredictions": OUTPUT_STREAM,
}
_OUTCOME_DELAY_STEPS = 3
_ARCHIVE_WINDOW_S = 8  # two steps: their records wait in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakReport:
    """The result of a soak."""

    rss_mb: list[float]  # Memory of the process after each tenth of the rides
    rides: int = 0  # Ride events sent, including malformed ones
    predicted: int = 0
    rejected: int = 0
    failed: int = 0  # Events in the failure destination, because of their age
    lost: int = 0
    predicted_and_rejected: int = 0
    failed_though_done: int = 0  # Failed events that have a prediction or reject: the function's answer was lost
    repeated: int = 0  # Predictions of an event that had one
    differing: int = 0  # Predictions of an id that had one with different bytes, without the next
    withdrawn: int = 0  # Those of a segment that a rollback withdrew: by its version and by the one in its place
    redriven: int = 0  # Records of failed batches that were redriven at the end
    open: int = 0  # Failed events that have neither prediction nor reject after the redrive
    rows: int = 0  # Predictions that a consumer holds which upserts by prediction id
    ids: int = 0  # Prediction ids on the output stream
    conflicts: int = 0  # Predictions that differed from the consumer's row of their id
    damaged: int = 0  # Rejects and failed events whose bytes differ from those sent
    joined_hours: int = 0  # Hours of arrival that the archive was joined by, at the end
    labelled: int = 0  # Ride events with a prediction and an outcome in the archive
    without_outcome: int = 0  # With a prediction only: every other ride, and the first of two copies
    audit_lost: int = 0  # Ride events in the archive without a result there
    audit_conflicting: int = 0
    audit_skewed: int = 0
    archived_mb: float = 0.0
    join_s: float = 0.0
    join_peak_mb: float = 0.0  # The process's maximum after the join
    invocations: int = 0
    redelivered_records: int = 0
    faults: int = 0  # Faults that occurred
    model_versions: int = 0
    shards: int = 0
    rides_per_s: float = 0.0

    @property
    def rss_growth_mb(self) -> float:
        """Growth of the process from the first tenth of the rides to the last."""
        return round(self.rss_mb[-1] - self.rss_mb[0], 1)

    @property
    def problems(self) -> list[str]:
        """The broken promises, a sentence each."""
        broken = {
            f"{self.lost} events are lost": self.lost,
            f"{self.predicted_and_rejected} events are predicted and rejected": self.predicted_and_rejected,
            f"{self.differing} predictions of an id differ, and no rollback explains it": self.differing,
            f"{self.open} failed events have neither prediction nor reject after a redrive": self.open,
            f"a consumer holds {self.rows} predictions of {self.ids} ids": self.rows != self.ids,
            f"a consumer saw {self.conflicts} predictions that differ": self.conflicts and not self.withdrawn,
            f"the audit of the archive finds {self.audit_lost} lost events": self.audit_lost,
            f"the audit of the archive finds {self.audit_conflicting} conflicting events": self.audit_conflicting,
            f"the audit of the archive finds {self.audit_skewed} skewed predictions": self.audit_skewed,
            f"only {self.labelled} events are labelled": self.labelled < _LEAST_LABELLED * self.predicted,
            f"{self.damaged} events were stored with different bytes than sent": self.damaged,
            f"memory grew by {self.rss_growth_mb} MB": self.rss_growth_mb >= MAX_GROWTH_MB,
        }
        return [sentence for sentence, is_broken in broken.items() if is_broken]


def fit_models(on_step: Callable[[str], None], parameters: dict[str, Any] = PARAMETERS) -> list[ExportedBundle]:
    """Fit the models of a soak on made-up rides."""
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
    """Send ride events through the template's event source mapping and account for each."""
    schedule = FaultSchedule(plan())
    stack = Stack(parameters={"ArchiveWindowSeconds": _ARCHIVE_WINDOW_S})
    options = SimulationOptions(
        mapping=stack.event_source_mapping(_NAMES),
        archive=stack.archive_mappings(_NAMES),
        n_shards=N_SHARDS,
        n_output_shards=N_SHARDS,
        output_format=output_format,
        output_groups=N_SHARDS,
        keeps_all=False,
        refreshes_s=(60.0, 50.0, 70.0),
    )
    ledger, traffic = SoakLedger(n_events), Traffic(synthetic_rides(_NEXT_MONTH, _N_TRAIN_RIDES, seed=2))
    rss_mb: list[float] = []
    started_s = time.monotonic()
    with _nothing_logged(), TemporaryDirectory() as folder, Judge(Path(folder)) as judge, TemporaryFile() as file:
        options = replace(options, bucket=MemoryS3(cast("dict[str, bytes]", BodiesInFile(file))))
        simulation = FaultySimulation(bundles, options, schedule)
        for n_sent in _steps(simulation, ledger, judge, traffic, n_events):
            on_sent(n_sent)
            if n_sent * _N_MARKS >= n_events * (len(rss_mb) + 1):
                rss_mb.append(resident_mb())
        simulation.settle(_PATIENCE_S)
        _account(simulation, ledger, judge)
        seconds = time.monotonic() - started_s
        rss_mb[-1] = resident_mb()
        report = _report(simulation, ledger, schedule, seconds, rss_mb)
        simulation.settle_archive(_PATIENCE_S)
        n_redriven = judge.redrive(simulation)
        _account(simulation, ledger, judge)
        simulation.settle_archive(_PATIENCE_S)
        return replace(
            report,
            redriven=n_redriven,
            open=ledger.n_open,
            lost=ledger.n_lost,
            predicted_and_rejected=ledger.n_predicted_and_rejected,
            differing=ledger.n_differing,
            rows=judge.n_rows,
            ids=ledger.n_ids,
            conflicts=judge.counts.n_replaced + judge.counts.n_outdated,
            **_joined(simulation),
        )


def _joined(simulation: FaultySimulation) -> dict[str, Any]:
    """Join all hours of the archive, and return the report's figures of them."""
    started_s = time.monotonic()
    bucket, options = simulation.models, JoinOptions(channel=CHANNEL)
    summaries = [join_hour(bucket, hour, options) for hour in archived_hours(bucket)]
    return {
        "joined_hours": len(summaries),
        "labelled": sum(one.n_labelled for one in summaries),
        "without_outcome": sum(one.n_without_outcome for one in summaries),
        "audit_lost": sum(one.n_lost + one.n_waiting for one in summaries),
        "audit_conflicting": sum(one.n_conflicting for one in summaries),
        "audit_skewed": sum(one.n_skewed for one in summaries),
        "archived_mb": round(sum(len(body) for body in simulation.bucket.bodies(f"{PREFIX}/")) / 1e6, 1),
        "join_s": round(time.monotonic() - started_s, 1),
        "join_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1),
    }


def resident_mb() -> float:
    """Return this process's memory; its maximum so far if the system has no /proc."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return round(int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)  # macOS counts bytes


def _steps(
    simulation: FaultySimulation, ledger: SoakLedger, judge: Judge, traffic: Traffic, n_events: int
) -> Iterator[int]:
    """Send each step's ride events, let a second pass and record the output; yield the events sent so far."""
    n_a_step, n_ended = -(-n_events // N_STEPS), 0
    for first in range(0, n_events, n_a_step):
        events = traffic.events(first, min(n_a_step, n_events - first))
        ledger.add_sent(events)
        simulation.send(traffic.entries(first, events))
        if first - n_ended >= _OUTCOME_DELAY_STEPS * n_a_step:
            simulation.send_outcomes(traffic.outcomes(n_ended, n_a_step))
            n_ended += n_a_step
        for _ in range(_POLLS_PER_STEP):
            simulation.clock.sleep(_STEP_S / _POLLS_PER_STEP)
            simulation.mapping.poll_once()
            simulation.poll_archive()
        _account(simulation, ledger, judge)
        yield ledger.n_sent
    simulation.send_outcomes(traffic.outcomes(n_ended, n_events - n_ended))


def _account(simulation: FaultySimulation, ledger: SoakLedger, judge: Judge) -> None:
    history = read_history(simulation.models, CHANNEL)
    ledger.rollbacks = [one for one in history if one.withdrawn]
    for data in judge.take_output(simulation):
        ledger.add_output(data)
    for one in queued_objects(simulation.queue):  # as `ridecast records` does: the audit looks into the bucket only
        simulation.models.write_once(one.key, one.body)
        for handle in one.handles:
            del simulation.queue.messages[handle]
    for body in judge.new_objects(simulation, f"{REJECTS_PREFIX}/"):
        ledger.add_rejects(body)
    for body in judge.new_objects(simulation, FAILURES.prefix):
        if not decode_failure("", body).records[0].is_archivers:
            ledger.add_failed(body)


def _report(
    simulation: FaultySimulation, ledger: SoakLedger, schedule: FaultSchedule, seconds: float, rss_mb: list[float]
) -> SoakReport:
    return SoakReport(
        rides=ledger.n_sent,
        predicted=ledger.n_predicted,
        rejected=ledger.n_rejected,
        failed=ledger.n_failed,
        lost=ledger.n_lost,
        predicted_and_rejected=ledger.n_predicted_and_rejected,
        failed_though_done=ledger.n_failed_though_done,
        repeated=ledger.n_repeated,
        differing=ledger.n_differing,
        withdrawn=ledger.n_withdrawn,
        damaged=ledger.n_damaged,
        invocations=simulation.mapping.stats.n_invocations,
        redelivered_records=simulation.mapping.stats.n_redelivered,
        faults=schedule.n_struck,
        model_versions=len(ledger.versions),
        shards=len(simulation.input.shards),
        rides_per_s=round(ledger.n_sent / seconds, 1),
        rss_mb=rss_mb,
    )


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Suppress the mapping's log, which has an entry for each fault."""
    logger = logging.getLogger("infra")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
