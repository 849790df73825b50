"""`make bench`: runs the benches, prints a table, writes build/bench.json; exit code 1 where a budget is not kept."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from infra.bench.comparators import plain_batched
from infra.bench.subjects import Subject, build_subject, kinesis_without_socket, ours
from infra.bench.timing import cpu_us_per_ride
from infra.console import ConsoleDisplay, error_console
from lambda_function.events import decode_ride_event, encode_prediction, pickup_minute, ride_columns
from lambda_function.features import feature_matrix
from lambda_function.processor import process
from lambda_function.publisher import Publisher
from lambda_function.records import decode_records

RESULT = Path("build/bench.json")
US, TIMES = "us a ride", "times"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `budget` is the most it may be, or the least where the unit is `times`."""

    name: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the budget, if there is one, is kept."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.unit == TIMES else self.value <= self.budget


def bench_engine(subject: Subject) -> list[Figure]:
    """Times the trees alone."""
    forest, fitted, matrix = subject.bundle.model.forest, subject.fitted, subject.matrix
    one = matrix[:1]
    us = cpu_us_per_ride(
        {
            "engine": (lambda: forest.predict(matrix), len(matrix)),
            "scikit-learn": (lambda: fitted.predict(matrix), len(matrix)),
            "engine, one": (lambda: [forest.predict(one) for _ in range(100)], 100),
            "scikit-learn, one": (lambda: [fitted.predict(one) for _ in range(10)], 10),
        }
    )
    return [
        Figure(f"engine: {forest.n_trees} trees, batch of {len(matrix):,}", us["engine"], US, 2.2),
        Figure("engine: the same by scikit-learn", us["scikit-learn"], US),
        Figure("engine: faster than scikit-learn", us["scikit-learn"] / us["engine"], TIMES, 4.0),
        Figure("engine: batch of one", us["engine, one"], US),
        Figure("engine: batch of one by scikit-learn", us["scikit-learn, one"], US),
    ]


def bench_handler(subject: Subject) -> list[Figure]:
    """Times the whole handler and each of its parts, on a full batch, beside a plain one with the same model."""
    event, model = subject.event, subject.bundle.model
    records = decode_records(event)
    data = [record.data() for record in records]
    events = [decode_ride_event(one) for one in data]
    rides = [event.ride for event in events]
    matrix = feature_matrix(ride_columns(rides, [pickup_minute(ride, 0.0) for ride in rides]))
    entries = [(entry.partition_key, entry.data) for entry in process(records, model).predictions]
    publisher = Publisher(kinesis_without_socket(parameter_validation=False), "ride-predictions")
    our_handler = ours(subject.bundle, kinesis_without_socket(parameter_validation=False))
    plain_handler = plain_batched(subject.fitted, kinesis_without_socket(parameter_validation=True))
    parts = {
        "envelope, base64": lambda: [record.data() for record in decode_records(event)],
        "decode": lambda: [decode_ride_event(one) for one in data],
        "features": lambda: feature_matrix(ride_columns(rides, [pickup_minute(ride, 0.0) for ride in rides])),
        "trees": lambda: model.predict(matrix),
        "encode": lambda: [encode_prediction(model.model_version, 18.23, one.ride_id, "shard:1") for one in events],
        "publish": lambda: publisher.publish(entries, lambda: 60.0),
    }
    whole = {"ours": lambda: our_handler(event), "plain": lambda: plain_handler(event)}
    us = cpu_us_per_ride({name: (run, len(records)) for name, run in {**whole, **parts}.items()})
    return [
        Figure(f"handler: batch of {len(records):,}", us["ours"], US),
        *(Figure(f"handler: {name}", us[name], US) for name in parts),
        Figure("handler: plain one (json, pandas, scikit-learn, put_records)", us["plain"], US),
        Figure("handler: cheaper than the plain one", us["plain"] / us["ours"], TIMES),
    ]


def main() -> int:
    """Runs everything on one thread and reports."""
    with ConsoleDisplay(error_console()).live() as display, threadpool_limits(1):
        display.step("fitting a model of full size on made-up rides")
        subject = build_subject()
        display.step("timing the engine beside scikit-learn")
        figures = bench_engine(subject)
        display.step("timing the handler and its parts")
        figures += bench_handler(subject)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    _print(figures)
    return 0 if all(figure.is_kept for figure in figures) else 1


def _print(figures: list[Figure]) -> None:
    table = Table(title="CPU, one thread, medians", title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("unit")
    table.add_column("budget", justify="right")
    for figure in figures:
        budget = "" if figure.budget is None else f"{'>=' if figure.unit == TIMES else '<='} {figure.budget:g}"
        table.add_row(figure.name, f"{figure.value:.2f}", figure.unit, budget, style="" if figure.is_kept else "red")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
