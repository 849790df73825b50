"""Compute what the loop costs a month with `LoopMode=on`: its three functions, and one run that its schedule starts.

Pure. Beside that are its metrics and alarms, which cost most. Its objects are kept for days, and cost less than a cent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.operate import prices
from infra.operate.cost import MILLION, VCPU_MB, lambda_dollars, log_dollars
from infra.operate.cost_inputs import Load, loop_alarm_metrics
from infra.stack.template import TEMPLATE, read_template
from training.workflows.day_split import MAX_RIDES

PARTS = {
    "looper": "loop: its steps",
    "collector": "collector",
    "trainer": "trainer",
    "loop_logs": "logs of the three",
    "loop_metrics": "metrics of the three",
    "loop_alarms": "alarms of the three",
}
"""Labels of the parts. A few requests to Scheduler, EventBridge and SQS cost less than a cent."""

COLLECT_S, COLLECT_S_PER_MILLION = 17.3, 2.3
TRAIN_S, TRAIN_S_PER_MILLION = 52.0, 57.0
"""CPU seconds: 18 s and 69 s at 300,000 rides, 29 s and 337 s at 5 million (`python -m tests.bench.retrain_growth`)."""

N_METRICS = 7
"""Steps, four ends of a run, failed collections, failed trainings; AWS bills the hours in which one has values."""

_STEPS_BESIDE_DAYS = 15  # of a run: decide, collect, train, gate, candidate, promote, end, with their callbacks
_EXTRA_DAYS = 3  # that a verdict or a watch may take longer than its budget
_OPERATIONS_A_STEP = 2  # a step and a wait
_STEP_S = 1.0  # CPU of an invocation: imports, replay, reads of S3
_S3_MS, _N_AT_ONCE = 20.0, 8
_HOURS_A_DAY, _S_A_DAY = 24, 86_400
_LOG_BYTES = 2000


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What template.yaml sets of the loop."""

    looper_mb: int
    collector_mb: int
    trainer_mb: int
    training_days: int
    run_days: int  # of comparison and watch, at most
    n_alarm_metrics: int


@dataclass(frozen=True, slots=True)
class LoopCost:
    """What the loop costs a month in dollars, by part, and the rides that its run learns from."""

    dollars_a_month: Mapping[str, float]
    n_rides: float
    has_too_many: bool  # more rides than a run takes: it is refused
    settings: LoopSettings

    @property
    def total(self) -> float:
        """Dollars a month."""
        return sum(self.dollars_a_month.values())


def read_loop_settings() -> LoopSettings:
    """Return the settings of template.yaml."""
    template: Mapping[str, Any] = read_template(TEMPLATE)
    default = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
    return LoopSettings(
        looper_mb=int(template["Resources"]["Looper"]["Properties"]["MemorySize"]),
        collector_mb=int(default["JoinMemoryMb"]),
        trainer_mb=int(default["TrainerMemoryMb"]),
        training_days=int(default["TrainingDays"]),
        run_days=int(default["LoopBudgetDays"]) + int(default["LoopWatchDays"]) + 2 * _EXTRA_DAYS,
        n_alarm_metrics=loop_alarm_metrics(template),
    )


def cost_loop(load: Load, settings: LoopSettings) -> LoopCost:
    """Compute the cost of a month with one run, which takes all its days; above its most rides, that of those."""
    n_rides = load.rides_per_s * _S_A_DAY * settings.training_days
    n_millions = min(n_rides, MAX_RIDES) / MILLION
    n_objects = settings.training_days * _HOURS_A_DAY
    n_steps = _STEPS_BESIDE_DAYS + settings.run_days
    step_ms = _STEP_S * 1000 * max(1.0, VCPU_MB / settings.looper_mb)
    collect_ms = 1000 * (COLLECT_S + COLLECT_S_PER_MILLION * n_millions) + n_objects * _S3_MS / _N_AT_ONCE
    train_ms = 1000 * (TRAIN_S + TRAIN_S_PER_MILLION * n_millions)
    operations = prices.DURABLE_OPERATION.of(_OPERATIONS_A_STEP * n_steps)
    return LoopCost(
        dollars_a_month={
            "looper": lambda_dollars(n_steps, step_ms, settings.looper_mb) + operations,
            "collector": lambda_dollars(1, collect_ms, settings.collector_mb) + prices.S3_GET.of(n_objects),
            "trainer": lambda_dollars(1, train_ms, settings.trainer_mb),
            "loop_logs": log_dollars(n_steps + 2, _LOG_BYTES),
            "loop_metrics": prices.CUSTOM_METRIC_MONTH.of(N_METRICS),
            "loop_alarms": prices.ALARM_METRIC_MONTH.of(settings.n_alarm_metrics),
        },
        n_rides=n_rides,
        has_too_many=n_rides > MAX_RIDES,
        settings=settings,
    )


def assumptions(cost: LoopCost) -> Iterator[str]:
    """Yield what the cost of the loop rests on, a sentence each."""
    settings = cost.settings
    yield (
        f"loop: nothing with LoopMode=off, the default; with LoopMode=on, one run a month of {settings.run_days} days "
        f"at most, {settings.looper_mb:,} MB; the metrics are counted as if they had values in every hour"
    )
    yield (
        f"collector: {settings.collector_mb:,} MB, {COLLECT_S:g} s and {COLLECT_S_PER_MILLION:g} s a million rides; "
        f"trainer: {settings.trainer_mb:,} MB, {TRAIN_S:g} s and {TRAIN_S_PER_MILLION:g} s a million, as on one core"
    )
    if cost.has_too_many:
        yield (
            f"{cost.n_rides / MILLION:,.0f} million rides arrive in TrainingDays ({settings.training_days:,}), a run "
            f"takes {MAX_RIDES / MILLION:g} million: it is refused, unless TrainingDays are fewer; the cost is that of"
            f" {MAX_RIDES / MILLION:g} million, and training elsewhere is not in it"
        )
