"""Experiments as tables for a terminal and as JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from infra.cli.output import fold, minutes_text, printable, width, write_lines, write_table

if TYPE_CHECKING:
    from training.experiments.experiment import Experiment
    from training.experiments.verdict import Look, Verdict

_COLUMNS = ("candidate", "days", "champion's RMSE", "candidate's RMSE", "gain", "interval", "answer")
_BAR = 41
_N_LOOKS = 28


def mode_text(experiment: "Experiment") -> str:
    """Return how the candidates get their rides."""
    if experiment.share is None:
        return "shadow: every ride is scored after the fact"
    return f"split: the candidate serves {experiment.share:.2%} of the rides"


def experiment_json(experiment: "Experiment") -> dict[str, Any]:
    """Return an experiment as it is stored, with what it says about each candidate."""
    from training.experiments.experiment import looks_of, verdict_of

    verdicts = {
        candidate: {
            **msgspec.to_builtins(verdict_of(experiment, candidate)),
            "rmse_minutes": dict(zip(("champion", "candidate"), _rmses(experiment, candidate), strict=True)),
            "looks": msgspec.to_builtins(looks_of(experiment, candidate)),
        }
        for candidate in experiment.candidates
    }
    return {**msgspec.to_builtins(experiment), "is_running": experiment.is_running, "verdicts": verdicts}


def write_overview(experiments: Sequence["Experiment"], damaged: Mapping[str, str]) -> None:
    """Write a row for each candidate of each experiment, and what can't be read."""
    if not experiments and not damaged:
        write_lines(["no experiment yet: `ridecast experiments start` begins one"])
        return
    rows = [
        (one.name, one.mode, *_row(one, candidate), _state(one)) for one in experiments for candidate in one.candidates
    ]
    columns = ("experiment", "mode", *_COLUMNS, "state")
    title = "RMSE in minutes; gain and interval in % of the champion's mean squared error"
    write_table(title, columns, rows, numeric=set(_COLUMNS[1:-1]))
    _write_notes([f"{problem}" for problem in damaged.values()], "! ")


def write_experiment(experiment: "Experiment") -> None:
    """Write one experiment: a row for each candidate, what is still needed, and the interval by day."""
    from training.experiments.experiment import looks_of, verdict_of

    title = (
        f"Experiment {experiment.name}: {_state(experiment)}\n{mode_text(experiment)}; champion {experiment.champion}"
        f"\nfrom {experiment.first_day} on, budget {experiment.rules.budget_days} days, margin"
        f" {experiment.rules.margin_percent:g}%"
    )
    rows = [_row(experiment, candidate) for candidate in experiment.candidates]
    write_table(title, _COLUMNS, rows, numeric=set(_COLUMNS[1:-1]))
    write_lines([""])
    for candidate in experiment.candidates:
        _write_notes([f"{candidate} needs {verdict_of(experiment, candidate).needed}"], "· ")
    _write_notes(_missing(experiment), "! ")
    for candidate in experiment.candidates:
        _write_looks(candidate, looks_of(experiment, candidate))


def _row(experiment: "Experiment", candidate: str) -> tuple[str, ...]:
    from training.experiments.experiment import verdict_of

    verdict = verdict_of(experiment, candidate)
    champion, own = map(minutes_text, _rmses(experiment, candidate))
    answer = verdict.answer if experiment.stopped is None or verdict.answer != "running" else "none"
    return candidate, str(verdict.n_days), champion, own, _signed(verdict.mean_percent), _interval(verdict), answer


def _rmses(experiment: "Experiment", candidate: str) -> tuple[float | None, float | None]:
    """Return the RMSE of the champion and of a candidate over all days; None without rides."""
    place = experiment.versions.index(candidate)
    return _rmse(experiment, 0), _rmse(experiment, place)


def _rmse(experiment: "Experiment", place: int) -> float | None:
    losses = [one.losses[place] for one in experiment.days]
    n_rides = sum(one.n_rides for one in losses)
    return math.sqrt(math.fsum(one.sum_squared_error for one in losses) / n_rides) if n_rides else None


def _state(experiment: "Experiment") -> str:
    if experiment.stopped:
        return f"stopped by {experiment.stopped.by}"
    return "running" if experiment.is_running else "ended"


def _signed(percent: float | None) -> str:
    return "none" if percent is None else f"{percent:+.1f}%"


def _interval(verdict: "Verdict | Look") -> str:
    if verdict.low_percent is None or verdict.high_percent is None:
        return "none yet"
    return f"{verdict.low_percent:+.1f}% to {verdict.high_percent:+.1f}%"


def _missing(experiment: "Experiment") -> list[str]:
    missing = [hour for day in experiment.days for hour in day.missing_hours]
    if not missing:
        return []
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return [f"without the rides of {missing[0]}{more}: these hours were not joined, or can't be read"]


def _write_looks(candidate: str, seen: Sequence["Look"]) -> None:
    shown = [one for one in seen if one.low_percent is not None][-_N_LOOKS:]
    if not shown:
        return
    limit = max(max(abs(one.low_percent or 0), abs(one.high_percent or 0)) for one in shown)
    rows = [(str(one.day), _signed(one.mean_percent), _interval(one), bar(one, limit)) for one in shown]
    columns = ("day", "gain", "interval", f"from -{limit:.1f}% to +{limit:.1f}%")
    write_table(f"\n{candidate} by day", columns, rows, numeric={"gain", "interval"})


def bar(look: "Look", limit: float, n: int = _BAR) -> str:
    """Return an interval as text: `=` within it, `o` at its mean, `|` at 0.

    >>> from datetime import date
    >>> from training.experiments.verdict import Look
    >>> bar(Look(date(2026, 8, 9), 7, 7, mean_percent=2.0, low_percent=-1.0, high_percent=5.0), limit=5.0, n=11)
    '    =|=o==='
    """

    def place(percent: float) -> int:
        clipped = min(max(percent, -limit), limit)
        return round((clipped / limit + 1) / 2 * (n - 1)) if limit else n // 2

    low, high = place(look.low_percent or 0.0), place(look.high_percent or 0.0)
    cells = ["=" if low <= cell <= high else " " for cell in range(n)]
    cells[n // 2] = "|"
    cells[place(look.mean_percent)] = "o"
    return "".join(cells).rstrip()


def _write_notes(notes: Sequence[str], beginning: str) -> None:
    for note in notes:
        write_lines(fold(printable(" ".join(note.split())), beginning, width()))
