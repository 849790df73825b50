"""Compute what the monitor costs a month: its function, requests to S3, logs and metrics. Its alarms are the stack's.

Pure. The averages are over a steady load, as in `cost.py`. Its objects are some kB an hour: less than a cent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from infra.operate import prices
from infra.operate.cost import HOURS_PER_MONTH, MILLION, VCPU_MB, lambda_dollars, log_dollars
from infra.operate.cost_inputs import Load
from infra.stack.template import TEMPLATE, read_template

PARTS = {
    "monitor_function": "monitor function",
    "monitor_requests": "its requests to S3",
    "monitor_logs": "its logs",
    "monitor_metrics": "its metrics",
}
"""Labels of the parts. A few events a day on the default bus cost less than a cent."""

FIGURES_S_PER_MILLION = 2.8
"""CPU seconds of the figures of a million rides: `python -m tests.bench.monitor_hour`."""

TICK_S_PER_MILLION = 1.9
"""CPU seconds of learning from a million rides: `python -m tests.bench.live_calibration --cost 1000000`."""

N_METRICS = 15
"""Of the monitor, at most."""

_RUNS_AN_HOUR = 4
_FIXED_MS = 150.0  # of a run: decoding, the status, the judgement once a day
_N_GETS, _N_LISTS, _N_PUTS = 60, 10, 3  # of a run; docs/monitoring.md
_S3_MS, _N_AT_ONCE = 20.0, 8
_LOG_BYTES = 1500


@dataclass(frozen=True, slots=True)
class MonitorCost:
    """What the monitor costs a month in dollars, by part; `monitor_s` are the CPU seconds of an hour of rides."""

    dollars_a_month: Mapping[str, float]
    monitor_s: float
    memory_mb: int

    @property
    def total(self) -> float:
        """Dollars a month."""
        return sum(self.dollars_a_month.values())


def read_memory_mb() -> int:
    """Return template.yaml's memory of the monitor."""
    return int(read_template(TEMPLATE)["Parameters"]["MonitorMemoryMb"]["Default"])


def cost_monitor(load: Load, memory_mb: int) -> MonitorCost:
    """Compute the cost of a month; all rides get an outcome, and calibration is on."""
    runs = _RUNS_AN_HOUR * HOURS_PER_MONTH
    work_s = load.rides_per_s * 3600 / MILLION * (FIGURES_S_PER_MILLION + TICK_S_PER_MILLION)
    cpu_ms = (work_s * 1000 / _RUNS_AN_HOUR + _FIXED_MS) * max(1.0, VCPU_MB / memory_mb)
    ms = cpu_ms + (_N_GETS + _N_LISTS + _N_PUTS) * _S3_MS / _N_AT_ONCE
    return MonitorCost(
        dollars_a_month={
            "monitor_function": lambda_dollars(runs, ms, memory_mb),
            "monitor_requests": prices.S3_GET.of(runs * _N_GETS) + prices.S3_PUT.of(runs * (_N_LISTS + _N_PUTS)),
            "monitor_logs": log_dollars(runs, _LOG_BYTES),
            "monitor_metrics": prices.CUSTOM_METRIC_MONTH.of(N_METRICS),
        },
        monitor_s=work_s,
        memory_mb=memory_mb,
    )


def assumptions(cost: MonitorCost) -> Iterator[str]:
    """Yield what the cost of the monitor rests on, a sentence each."""
    yield (
        f"monitor: {cost.memory_mb:,} MB, {_RUNS_AN_HOUR} runs an hour; {FIGURES_S_PER_MILLION:g} s of CPU a million "
        f"rides for figures and {TICK_S_PER_MILLION:g} s for calibration: {cost.monitor_s:,.1f} s an hour"
    )
    yield f"metrics of the monitor: {N_METRICS} at most; its alarms are among those of the stack"
