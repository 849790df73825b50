"""How often the verdict of an experiment is wrong on real rides, beside tests by ride, by hour and by day.

    python -m tests.bench.verdict_errors --bundles build/verdicts [--runs 2000] [--plot build/verdict.svg]

Two models are never equally good on real rides, but they can be made so. The second one's squared errors are scaled, so
that both have the same MSE over all days. And on each day a coin decides which of the two is called champion. All else
stays as it was: the days in a row, their rides, the size of the differences. So every `better` and `worse` is false.
Coins for two days or a week at a time show what it costs if days in a row are alike. Each run is of 28 days in a row,
looked at daily from day 7.

Two seeds of one model must be found equivalent. For power, the days are taken as they are, from each day that has 28
days after it; and with errors scaled so that the difference is known.

A split is tried on the rides of one model: each ride draws its arm, so that both arms are equally good.

Prints tables and one line of JSON; draws how the sequence narrows. Exits with 1 if a bar is missed: false verdicts of
each pair 5% by day, 6% by two days; 90% of two seeds equivalent; pairs 6% and more apart decided by day 14. The models
take about 4 minutes of CPU the first time, the verdicts about 5.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from infra.cli.output import error_console, live_display
from tests.bench.figures import svg_axes
from tests.bench.paired_days import SEED_2, SPANS, Pair, Span, Spec, fitted, load, pairs_of
from training.errors import UserError
from training.evaluation.metrics import predictor
from training.evaluation.slices import by_day
from training.experiments.verdict import ArmLosses, Rules, judge, judge_split, looks

RULES = Rules()
BLOCKS = (1, 2, 7)
MOST_FALSE = {1: 0.05, 2: 0.06}
LEAST_EQUIVALENT = 0.9
LARGE_PERCENT, LARGE_BY_DAY = 6.0, 14
GAINS_PERCENT = (2.0, 5.0, 8.0)
SPLIT_SPAN, SPLIT_MODEL, SPLIT_SHARES = SPANS[1], Spec("2023-01"), (0.5, 0.1)
DRAWN = ((Spec("2022-01"), Spec("2022-03")), (Spec("2023-01"), Spec("2023-01", SEED_2)))
_Z = 1.959964
_UNITS = ("ride", "hour", "day")


@dataclass(frozen=True, slots=True)
class Errors:
    """The verdicts of a pair of which neither was better, as shares of runs."""

    pair: Pair
    false: dict[int, float]  # better or worse, by the days of a coin
    equivalent: float  # by the day's coin
    by_unit: dict[str, float]  # false verdicts of a z-test by ride, hour and day, by the day's coin


@dataclass(frozen=True, slots=True)
class Power:
    """The verdicts of a pair on its days as they are, from each possible first day."""

    pair: Pair
    first: tuple[str, int | None]  # answer and day from the span's first day
    answers: dict[str, float]
    wrong: float  # better where the sum over all days says worse, or the other way round
    by_day_14: float  # decided by then


def measure(pair: Pair, n_runs: int, seed: int = 0) -> Errors:
    """Judge runs of swapped days."""
    rng = np.random.default_rng(seed)
    false, equivalent, by_unit, equal = {}, 0.0, {}, pair.scaled(0)
    for block in BLOCKS:
        starts, swapped = draw(rng, len(pair.days), n_runs, block)
        answers = Counter(
            judge(pair.losses(equal, start, RULES.budget_days, swap), RULES).answer
            for start, swap in zip(starts.tolist(), swapped, strict=True)
        )
        false[block] = (answers["better"] + answers["worse"]) / n_runs
        if block == 1:
            equivalent = answers["equivalent"] / n_runs
            by_unit = z_tests(pair, starts, swapped)
    return Errors(pair, false, equivalent, by_unit)


def draw(rng: np.random.Generator, n_days: int, n_runs: int, block: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw first days (n_runs,), and which days of each run are swapped (n_runs, budget), a block of days alike."""
    budget = RULES.budget_days
    starts = rng.integers(0, n_days - budget + 1, n_runs)
    coins = rng.random((n_runs, -(-budget // block))) < 0.5
    return starts, np.repeat(coins, block, axis=1)[:, :budget]


def z_tests(pair: Pair, starts: NDArray[np.int64], swapped: NDArray[np.bool_]) -> dict[str, float]:
    """Return how often a two-sided z-test at 5% is significant on any day from the first look on, by its unit."""
    taken = starts[:, None] + np.arange(RULES.budget_days)
    first, second = pair.scaled(0)
    difference = np.where(swapped, -1, 1) * (first - second)[taken]
    by_day = np.ones(len(pair.days)), (first - second) ** 2
    units = (pair.n_rides, pair.ride_squares), (pair.n_hours, pair.hour_squares), by_day
    shares = {}
    for name, (count, squares) in zip(_UNITS, units, strict=True):
        sums = (np.cumsum(one, axis=1) for one in (count[taken], difference, squares[taken]))
        n, total, square = (one[:, RULES.first_look_days - 1 :] for one in sums)
        variance = (square - total**2 / n) / (n - 1)
        z = total / np.sqrt(n * np.maximum(variance, 1e-12))
        shares[name] = float((np.abs(z) > _Z).any(axis=1).mean())
    return shares


def find(pair: Pair) -> Power:
    """Judge the days as they are from each first day."""
    budget = RULES.budget_days
    verdicts = [judge(pair.losses(pair.squares, start, budget), RULES) for start in range(len(pair.days) - budget + 1)]
    n, answers = len(verdicts), Counter(one.answer for one in verdicts)
    wrong = answers["worse" if pair.mean_percent > 0 else "better"] / n
    by_14 = sum(one.decided_on_day is not None and one.decided_on_day <= LARGE_BY_DAY for one in verdicts) / n
    first = (verdicts[0].answer, verdicts[0].decided_on_day)
    return Power(pair, first, {answer: count / n for answer, count in answers.items()}, wrong, by_14)


def gain_found(pairs: Sequence[Pair], gain_percent: float) -> dict[str, float]:
    """Scale every pair's errors to a known difference; return how often `better` is found by day 14 and by day 28."""
    budget = RULES.budget_days
    decided_on = []
    for pair in pairs:
        squares = pair.scaled(gain_percent)
        for start in range(len(pair.days) - budget + 1):
            verdict = judge(pair.losses(squares, start, budget), RULES)
            decided_on.append(verdict.decided_on_day if verdict.answer == "better" else None)
    return {f"day {last}": _share(day is not None and day <= last for day in decided_on) for last in (14, budget)}


def split_errors(span: Span, spec: Spec, folder: Path, share: float, n_runs: int) -> dict[str, Any]:
    """Draw an arm for each of a model's rides on the first days of a span; return the shares of answers."""
    rides = load(span.service, span.months)
    squares = predictor(fitted(span.service, spec, folder).model)(rides).error_minutes ** 2
    slicing, budget = by_day(rides), RULES.budget_days
    number = slicing.number(rides.columns)
    squares, number = squares[number < budget], number[number < budget]
    days = [date.fromisoformat(name) for name in slicing.names[:budget]]
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(n_runs):
        is_candidate = rng.random(len(squares)) < share
        arms = [
            one
            for arm in (~is_candidate, is_candidate)
            for one in (np.bincount(number[arm], minlength=budget), np.bincount(number[arm], squares[arm], budget))
        ]
        rows = zip(days, *(one.tolist() for one in arms), strict=True)
        verdicts.append(judge_split([ArmLosses(*row) for row in rows], share, RULES))
    ends = [(one.low_percent, one.high_percent) for one in verdicts]
    half_widths = [(high - low) / 2 for low, high in ends if low is not None and high is not None]
    return {
        "span": str(span), "share": share, "rides_a_day": round(len(squares) / budget),
        "false": _share(one.answer in {"better", "worse"} for one in verdicts),
        "void": _share(one.answer == "void" for one in verdicts),
        "half_width_percent": round(float(np.median(half_widths)), 1),
    }  # fmt: skip


def _share(of: Iterable[bool]) -> float:
    return float(np.mean(list(of)))


def error_table(errors: Sequence[Errors]) -> Table:
    """Build the table of false verdicts by span: the mean over its pairs, and the worst pair."""
    columns = [*(f"{block}-day coins" for block in BLOCKS), *(f"z by {unit}" for unit in _UNITS)]
    title = "False answers: mean of the pairs (worst). The verdict by coins for so many days; z-tests by 1-day coins"
    table = Table(title=title, title_justify="left")
    for column in ("months", "pairs", *columns):
        table.add_column(column, justify="left" if column == "months" else "right")
    spans = dict.fromkeys(one.pair.span for one in errors)
    groups = [(str(span), [one for one in errors if one.pair.span is span]) for span in spans]
    for name, some in [*groups, ("all", list(errors))]:
        shares = np.array([[*one.false.values(), *one.by_unit.values()] for one in some])
        cells = [f"{mean:.1%} ({worst:.1%})" for mean, worst in zip(shares.mean(0), shares.max(0), strict=True)]
        table.add_row(name, str(len(some)), *cells)
    return table


def seeds_table(errors: Sequence[Errors], powers: Sequence[Power]) -> Table:
    """Build the table of pairs of seeds."""
    table = Table(title="Two seeds of one model", title_justify="left")
    for column in ("pair", "differ by", "equivalent by day 28", "as they are"):
        table.add_column(column, justify="left" if column == "pair" else "right")
    for one, power in zip(errors, powers, strict=True):
        if one.pair.is_seeds:
            answer, day = power.first
            table.add_row(
                f"{one.pair.span}: {one.pair}", f"{one.pair.mean_percent:+.2f}%", f"{one.equivalent:.1%}",
                f"{answer}, day {day}",
            )  # fmt: skip
    return table


def power_table(powers: Sequence[Power]) -> Table:
    """Build the table of pairs that are far apart, on the days as they are."""
    table = Table(title=f"Pairs {LARGE_PERCENT:g}% and more apart in MSE, as they are", title_justify="left")
    for column in ("pair", "second better by", "from the first day", "decided by day 14, of all first days", "wrong"):
        table.add_column(column, justify="left" if column == "pair" else "right")
    for one in filter(is_large, powers):
        answer, day = one.first
        table.add_row(
            f"{one.pair.span}: {one.pair}", f"{one.pair.mean_percent:+.1f}%", f"{answer}, day {day}",
            f"{one.by_day_14:.0%}", f"{one.wrong:.0%}",
        )  # fmt: skip
    return table


def is_large(power: Power) -> bool:
    """Return whether a pair is so far apart that it must be decided early."""
    return abs(power.pair.mean_percent) >= LARGE_PERCENT


def missed(errors: Sequence[Errors], powers: Sequence[Power]) -> list[str]:
    """Describe every bar that is missed."""
    found = [
        f"{one.pair.span}: {one.pair}: {one.false[block]:.1%} false verdicts by coins for {block} days"
        for one in errors
        for block, most in MOST_FALSE.items()
        if one.false[block] > most
    ]
    found += [
        f"{one.pair.span}: {one.pair}: two seeds are equivalent in {one.equivalent:.1%} only"
        for one in errors
        if one.pair.is_seeds and one.equivalent < LEAST_EQUIVALENT
    ]
    return found + [
        f"{one.pair.span}: {one.pair}: {one.pair.mean_percent:+.1f}%, but {one.first[0]} on day {one.first[1]}"
        for one in filter(is_large, powers)
        if one.first[1] is None or one.first[1] > LARGE_BY_DAY
    ]


def draw_sequences(pairs: Sequence[Pair], path: Path) -> None:
    """Draw how the sequence of each pair narrows, day by day."""
    with svg_axes(path, len(pairs), 9.0) as axes:
        for axis, pair in zip(axes, pairs, strict=True):
            days = pair.losses(pair.squares, 0, RULES.budget_days)
            seen = looks(days, RULES)
            bounded = [one for one in seen if one.low_percent is not None]
            number = [one.number for one in bounded]
            margin = RULES.margin_percent
            axis.axhspan(-margin, margin, color="0.9", label=f"margin, {margin:g}%")
            axis.axhline(0, color="0.4", lw=0.8)
            daily = [100 * (one.champion - one.candidate) / one.champion for one in days]
            axis.plot(range(1, len(days) + 1), daily, "o", ms=3, color="0.55", label="a day")
            ends = [[one.low_percent for one in bounded], [one.high_percent for one in bounded]]
            axis.fill_between(number, *ends, alpha=0.3, color="C0", lw=0, label="confidence sequence")
            axis.plot([one.number for one in seen], [one.mean_percent for one in seen], color="C0", label="mean so far")
            verdict = judge(days, RULES)
            if verdict.decided_on_day:
                axis.axvline(verdict.decided_on_day, color="C3", lw=1, ls="--")
            axis.set_title(
                f"{pair.span.service}, from {days[0].day}: {verdict.answer}, day {verdict.decided_on_day}", fontsize=10
            )
            axis.set_xlabel("day of the experiment")
            axis.set_xlim(0.5, RULES.budget_days + 0.5)
        axes[0].set_ylabel("candidate better by, % of MSE")
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)


def run(n_runs: int, folder: Path, plot: Path | None, console: Console) -> bool:
    """Measure all pairs, print the tables, draw the plot, and return whether all bars are met."""
    with live_display() as display:
        pairs = [pair for span in SPANS for pair in pairs_of(span, folder, display.step)]
        errors, powers = [], []
        for number, pair in enumerate(pairs, 1):
            display.step(f"pair {number} of {len(pairs)}: {pair}")
            errors.append(measure(pair, n_runs, number))
            powers.append(find(pair))
        display.step("known gains and splits")
        near = [pair for pair in pairs if abs(pair.mean_percent) < LARGE_PERCENT and not pair.is_seeds]
        gains = {f"{gain:g}%": gain_found(near, gain) for gain in GAINS_PERCENT}
        splits = [split_errors(SPLIT_SPAN, SPLIT_MODEL, folder, share, max(n_runs // 4, 1)) for share in SPLIT_SHARES]
    for table in (error_table(errors), seeds_table(errors, powers), power_table(powers)):
        console.print(table)
    if plot:
        draw_sequences([pair for pair in pairs if (pair.one, pair.other) in DRAWN and pair.span is SPLIT_SPAN], plot)
    misses = missed(errors, powers)
    for miss in misses:
        console.print(f"missed: {miss}", highlight=False)
    figures = {
        "runs": n_runs,
        "pairs": len(pairs),
        "false": {str(block): _mean_and_worst([one.false[block] for one in errors]) for block in BLOCKS},
        "z": {unit: _mean_and_worst([one.by_unit[unit] for one in errors]) for unit in _UNITS},
        "equivalent_seeds": min(one.equivalent for one in errors if one.pair.is_seeds),
        "gains_found": gains,
        "split": splits,
        "missed": len(misses),
    }
    console.print_json(json.dumps(figures), indent=None)
    return not misses


def _mean_and_worst(shares: Sequence[float]) -> list[float]:
    return [round(float(np.mean(shares)), 4), round(max(shares), 4)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit or read the models, judge all pairs, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.verdict_errors", description="The verdict's errors.")
    parser.add_argument("--bundles", type=Path, default=Path("build/verdicts"), help="a folder for the fitted models")
    parser.add_argument("--runs", type=int, default=2_000, help="of each pair and kind of coin")
    parser.add_argument("--plot", type=Path, help="draw how the sequence narrows")
    options = parser.parse_args(arguments)
    console = Console(file=sys.stdout, soft_wrap=True)
    try:
        return 0 if run(options.runs, options.bundles, options.plot, console) else 1
    except UserError as error:
        error_console().print(str(error), markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
