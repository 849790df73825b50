"""The gate's verdicts on pairs of real models, beside the month after the one that it judged on.

    python -m tests.bench.gate_verdicts --service green

For windows of local months, a model learns from each. Every model is a candidate against every other one, older and
newer, and as the first model of an empty channel. What happens in life is one of the three tables: a model is trained
again, on as many months that end later. The gate judges on the first month after both; the month after that shows what
the models were worth. A candidate is truly better (worse) if the interval of the difference in RMSE on that next month,
bootstrapped over days, is below (above) 0; else the two are alike there.

A fit of 70,000 rides takes 5 s of CPU, a verdict 1 s. All green pairs take about 8 minutes, the yellow samples 5.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.cli.output import counted, error_console, live_display
from lambda_function.core.bundle import ModelBundle
from training.data.load import tlc_months
from training.data.months import Month, Service, default_data_dir, local_months
from training.data.rides import Rides, concat_rides
from training.errors import UserError
from training.evaluation.bootstrap import Comparison, compare_days
from training.evaluation.gate import GateReport, run_gate
from training.evaluation.metrics import PredictionErrors, Predictor, plain_predictor, predictor
from training.evaluation.slices import by_day
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle, read_bundle, write_bundle
from training.model.parameters import PARAMETERS
from training.workflows.pipeline import train

SIZES: dict[Service, tuple[int, ...]] = {"green": (1, 2, 3, 99), "yellow": (3, 6, 12)}
"""Training months of the windows; 99 stands for all months so far."""

STEP: dict[Service, int] = {"green": 1, "yellow": 3}
"""Windows end with every such month."""

WORSE, ALIKE, BETTER = "worse", "alike", "better"

Window = tuple[Month, ...]


class Case(NamedTuple):
    """A candidate and its champion, None for an empty channel; the month of the gate and the one after."""

    candidate: Window
    champion: Window | None
    gate: Month
    after: Month


@dataclass(frozen=True, slots=True)
class Judged:
    """A case with the gate's report, and the comparison on the month after."""

    case: Case
    report: GateReport
    truth: Comparison

    @property
    def is_better(self) -> str:
        """Whether the candidate is truly better: WORSE, ALIKE or BETTER."""
        if self.truth.high < 0:
            return BETTER
        return WORSE if self.truth.low > 0 else ALIKE


def windows(service: Service, months: Sequence[Month]) -> list[Window]:
    """Return the training windows, by their last month; after each there are two more months."""
    ends = range(STEP[service], len(months) - 1, STEP[service])
    found = [tuple(months[max(0, end - size) : end]) for end in ends for size in SIZES[service]]
    return [window for number, window in enumerate(found) if window not in found[:number]]


def is_retraining(service: Service, case: Case, months: Sequence[Month]) -> bool:
    """Return whether a candidate is the champion's successor: as many months, or all months, up to a later one."""
    if case.champion is None or case.candidate[-1] <= case.champion[-1]:
        return False
    return any(
        all(
            window == tuple(months[: months.index(window[-1]) + 1][-size:])
            for window in (case.candidate, case.champion)
        )
        for size in SIZES[service]
    )


def cases(found: Sequence[Window], months: Sequence[Month]) -> Iterator[Case]:
    """Return every ordered pair of windows, and every window alone."""
    for candidate, champion in [*itertools.permutations(found, 2), *((window, None) for window in found)]:
        last = max(window[-1] for window in (candidate, champion) if window)
        gate, after = [month for month in months if month > last][:2]
        yield Case(candidate, champion, gate, after)


class Bench:
    """The models of a service's windows, and its rides by month."""

    def __init__(self, service: Service, parameters: dict[str, Any], folder: Path | None) -> None:
        self.service, self.parameters, self.folder = service, parameters, folder
        self.load = cache(lambda month: tlc_months(service)([month]))
        self.bundles: dict[Window, ExportedBundle] = {}
        self._errors: dict[tuple[str, Month, int], PredictionErrors] = {}
        self._truths: dict[frozenset[Window | None], tuple[Window, Comparison]] = {}

    def rides(self, window: Window) -> Rides:
        """Return the rides of a window."""
        return concat_rides(self.load(month) for month in window)

    def fit(self, window: Window) -> None:
        """Fit a window's model, or read it from the folder. Its last training month stands for a validation month."""
        name = f"{self.service}-{window[0]}-{len(window)}-{self.parameters['max_iter']}"
        stored = sorted((self.folder / name).glob("*/")) if self.folder else []
        if stored:
            self.bundles[window] = read_bundle(stored[0])
            return
        rides, last = self.rides(window), self.load(window[-1])
        fitted = self.bundles[window] = train(self.service, rides, last, self.parameters, has_reference=False).bundle
        if self.folder:
            write_bundle(fitted, self.folder / name)

    def judge(self, case: Case) -> Judged:
        """Gate a candidate, without timing its trees, and look at the month after."""
        candidate = self.bundles[case.candidate]
        report = run_gate(
            candidate,
            self.bundles[case.champion] if case.champion else None,
            self.load(case.gate),
            self.rides(case.candidate),
            channel="stable",
            time_ratio=lambda _model, _rides: 1.0,
            predictor_of=self._predictor,
        )
        return Judged(case, report, self._truth(case))

    def _predictor(self, model: ModelBundle) -> Predictor:
        """Return a predictor that predicts the rides of a month once."""
        predict = predictor(model)

        def remembered(rides: Rides) -> PredictionErrors:
            key = (model.model_version, rides.months[0], len(rides))
            if key not in self._errors:
                self._errors[key] = predict(rides)
            return self._errors[key]

        return remembered

    def _truth(self, case: Case) -> Comparison:
        rides = self.load(case.after)
        day = by_day(rides).number(rides.columns)
        predictors = self._predictor(self.bundles[case.candidate].model), self._champion(case)
        squares = (predict(rides).error_minutes ** 2 for predict in predictors)
        return compare_days(np.bincount(day), *(np.bincount(day, one) for one in squares))

    def _champion(self, case: Case) -> Predictor:
        if case.champion:
            return self._predictor(self.bundles[case.champion].model)
        return plain_predictor(fit_baseline(self.rides(case.candidate)).predict)


def summary(title: str, judged: Sequence[Judged]) -> Table:
    """Build the table of verdicts against the next month."""
    table = Table(title=title, title_justify="left")
    for column in ("", "worse next month", "alike", "better", "RMSE higher", "RMSE lower"):
        table.add_column(column, justify="right" if column else "left")
    for verdict, passed in (("passed", True), ("refused", False)):
        some = [one for one in judged if one.report.passed is passed]
        by_truth = Counter(one.is_better for one in some)
        n_lower = sum(one.truth.difference_rmse_minutes < 0 for one in some)
        table.add_row(
            verdict, *(str(by_truth[truth]) for truth in (WORSE, ALIKE, BETTER)), str(len(some) - n_lower), str(n_lower)
        )
    return table


def wrong_lines(judged: Sequence[Judged]) -> Iterator[str]:
    """Describe the candidates that were passed and are not better, and those that were refused and are."""
    for one in judged:
        if one.report.passed is (one.truth.difference_rmse_minutes < 0):
            continue
        champion = _text(one.case.champion) if one.case.champion else "the baseline"
        failed = "; ".join(f"{rule.rule}: {rule.seen}" for rule in one.report.rules if not rule.passed)
        yield (
            f"{'passed' if one.report.passed else 'refused'}, {one.is_better} on {one.case.after}"
            f" ({one.truth.difference_rmse_minutes:+.3f} min [{one.truth.low:+.3f}, {one.truth.high:+.3f}]):"
            f" {_text(one.case.candidate)} against {champion} on {one.case.gate}: {failed or 'every rule passed'}"
        )


def _text(window: Window) -> str:
    return str(window[0]) if len(window) == 1 else f"{window[0]}..{window[-1]} ({len(window)})"


def run(service: Service, n_trees: int, folder: Path | None, write: Callable[[object], None]) -> None:
    """Fit, judge and print one service's tables."""
    months = local_months(service, default_data_dir())
    found = windows(service, months)
    bench = Bench(service, {**PARAMETERS, "max_iter": n_trees}, folder)
    with live_display() as display:
        for number, window in enumerate(found, 1):
            display.step(f"{service}: fitting model {number} of {len(found)}, {_text(window)}")
            bench.fit(window)
    todo = list(cases(found, months))
    with counted(f"{service}: judging", todo, len(todo)) as pending:
        judged = [bench.judge(case) for case in pending]
    groups = {
        "retrained models, each against a predecessor of as many months": [
            one for one in judged if is_retraining(service, one.case, months)
        ],
        "pairs of any two models": [one for one in judged if one.case.champion],
        "first models, against the baseline": [one for one in judged if not one.case.champion],
    }
    for name, some in groups.items():
        write(summary(f"{service}: {len(some)} {name}, {n_trees} trees", some))
        for line in wrong_lines(some):
            write(line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit the models, judge all cases, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gate_verdicts", description="The gate's verdicts.")
    parser.add_argument("--service", choices=get_args(Service), action="append", help="default: both")
    parser.add_argument("--trees", type=int, default=PARAMETERS["max_iter"], help="fewer are fitted faster")
    parser.add_argument("--bundles", type=Path, help="a folder that keeps the fitted models for the next time")
    options = parser.parse_args(arguments)
    console = Console(file=sys.stdout, soft_wrap=True)
    try:
        for service in options.service or get_args(Service):
            run(
                cast("Service", service),
                options.trees,
                options.bundles,
                lambda text: console.print(text, highlight=False),
            )
    except UserError as error:
        error_console().print(str(error), markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
