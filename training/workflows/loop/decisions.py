"""The loop's decisions: pure functions of what was read. Each gives its reason in a sentence."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from training.experiments.verdict import Verdict
from training.workflows.loop.options import LoopOptions, LoopStart

FIRST_LOOK = 7
"""A candidate is judged after a week at the earliest: each day of the week counts once."""

FIRST_WATCH_LOOK = 5
"""The watch looks first after five days: with fewer, no confidence sequence at 5% has bounds."""


class Facts(NamedTuple):
    """What is known when a run begins.

    Attributes:
        channel_problem: Why the channel can't be read or is lost; None if it is in order.
        champion: The channel's newest version; None if it is empty.
        champion_since: When it began to serve; None if it always has.
        last_run: The id of the newest run that trained, or would have; None without one.
        last_run_began_at: When that run began, and so the end of the rides that it learned from.
        last_day: The last day whose hours are all joined, as ``2026-08-01``; None without one.
        n_rides: Labelled rides in the training days; counting stops at enough.
        n_gate_rides: Those of the gate's days.
        monitor_problem: Why there is no status of monitoring; None if there is one.
        frozen_reason: Why calibration is frozen; None if it is not.
    """

    channel_problem: str | None = None
    champion: str | None = None
    champion_since: datetime | None = None
    last_run: str | None = None
    last_run_began_at: datetime | None = None
    last_day: str | None = None
    n_rides: int = 0
    n_gate_rides: int = 0
    monitor_problem: str | None = None
    frozen_reason: str | None = None


class Choice(NamedTuple):
    """What follows from a look at an experiment, and why."""

    action: Literal["wait", "promote", "keep", "roll back"]
    text: str


def refusal(facts: Facts, start: LoopStart, options: LoopOptions, now: datetime) -> str | None:
    """Return why a run does not begin; None if it does. The first reason that holds is given."""
    for reason in _REASONS:
        if problem := reason(facts, start, options, now):
            return problem
    return None


def _channel(facts: Facts, start: LoopStart, options: LoopOptions, now: datetime) -> str | None:
    del start, now
    if facts.channel_problem:
        return facts.channel_problem
    if facts.champion is None:
        return f"{options.channel} is empty: release a first model with `ridecast models release`, then start the loop"
    return None


def _monitor(facts: Facts, start: LoopStart, options: LoopOptions, now: datetime) -> str | None:
    del start, options, now
    if facts.monitor_problem:
        return facts.monitor_problem
    if facts.frozen_reason:
        return f"calibration is frozen, so the outcomes are in doubt: {facts.frozen_reason}"
    return None


def _cooldown(facts: Facts, start: LoopStart, options: LoopOptions, now: datetime) -> str | None:
    if start.trigger == "manual":  # a person decides
        return None
    rest = timedelta(days=options.cooldown_days)
    if facts.last_run_began_at and now < facts.last_run_began_at + rest:
        since, what = facts.last_run_began_at, f"run {facts.last_run} began"
    elif facts.champion_since and now < facts.champion_since + rest:
        since, what = facts.champion_since, f"{facts.champion} came to {options.channel}"
    else:
        return None
    return (
        f"{what} at {_minute(since)}, and {options.cooldown_days} days must pass: the next run may begin at"
        f" {_minute(since + rest)}, or start one by hand"
    )


def _rides(facts: Facts, start: LoopStart, options: LoopOptions, now: datetime) -> str | None:
    del start, now
    if facts.last_day is None or not facts.n_gate_rides:
        return f"there are no labelled rides of the last {options.gate_days} days, which the gate needs"
    if facts.n_rides < options.min_rides:
        return (
            f"there are {facts.n_rides:,} labelled rides of the last {options.training_days} days, and training needs"
            f" {options.min_rides:,}"
        )
    return None


_Reason = Callable[[Facts, LoopStart, LoopOptions, datetime], str | None]

_REASONS: Sequence[_Reason] = (_channel, _monitor, _cooldown, _rides)


def after_verdict(verdict: Verdict, options: LoopOptions, *, is_last_look: bool) -> Choice:
    """Return what follows from the verdict on a candidate: it is promoted if it is better.

    Equivalent models are not exchanged: every move has a risk, and there is nothing to gain. Nor is a candidate
    promoted whose days contradict each other, whatever the policy for undecided ones.
    """
    if verdict.answer == "running":
        if not is_last_look:
            return Choice("wait", verdict.needed)
        return Choice("keep", f"the budget is over, and days of it are missing: {verdict.needed}")
    if verdict.answer == "void":
        return Choice("keep", f"the comparison is void: {verdict.needed}")
    is_open = verdict.answer == "undecided" and not verdict.is_contradiction
    is_promoted = verdict.answer == "better" or (is_open and options.undecided == "promote")
    return Choice("promote" if is_promoted else "keep", f"{_ANSWERS[verdict.answer]}: {_figures(verdict)}")


_ANSWERS = {
    "better": "the candidate is better",
    "worse": "the champion is better",
    "equivalent": "both are equivalent, and an exchange would gain nothing",
    "undecided": "no difference was found within the budget",
}


def after_watch(verdict: Verdict, options: LoopOptions, *, has_alarm: bool, is_last_look: bool) -> Choice:
    """Return what follows from the verdict on the predecessor, as the candidate against the version that serves.

    Roll back if the predecessor is better. Or if the performance alarm of the version that serves sounds, and the
    predecessor's error so far is lower by more than the margin: two weak signs, but the predecessor is known.
    """
    figures = _figures(verdict)
    if verdict.answer == "better":
        return Choice("roll back", f"the predecessor is better: {figures}")
    if has_alarm and verdict.mean_percent is not None and verdict.mean_percent > options.margin_percent:
        return Choice("roll back", f"the performance alarm sounds, and the predecessor is ahead: {figures}")
    if verdict.answer in {"worse", "equivalent"}:
        return Choice("keep", f"the predecessor is not better: {figures}")
    if is_last_look or verdict.answer in {"undecided", "void"}:
        return Choice("keep", f"nothing was found against the new version: {figures}")
    return Choice("wait", verdict.needed)


def _figures(verdict: Verdict) -> str:
    if verdict.mean_percent is None:
        return "no day could be compared"
    bounds = ""
    if verdict.low_percent is not None and verdict.high_percent is not None:
        bounds = f", surely {verdict.low_percent:+.1f} to {verdict.high_percent:+.1f}"
    return f"{verdict.mean_percent:+.1f}% of MSE{bounds}, {verdict.n_days} days"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
