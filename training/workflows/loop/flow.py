"""A run of the loop: decide, collect, train, gate, candidate, verdicts, approve, promote, watch, roll back, end.

The run is called again from its beginning whenever it goes on, so everything with an effect is in a step. A step that
was cut off is called again: it looks first whether its effect is there.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from training.registry.channel_history import read_channel
from training.registry.versions import read_manifest, read_verdict
from training.workflows.loop.asking import approve, collect, train
from training.workflows.loop.checkpoints import Checkpoints, StepFailedError
from training.workflows.loop.comparison import Comparison, experiment_names
from training.workflows.loop.decisions import FIRST_LOOK, FIRST_WATCH_LOOK, after_verdict, after_watch, refusal
from training.workflows.loop.facts import has_performance_alarm, read_facts
from training.workflows.loop.moves import Place, has_served, holds, put, take_back
from training.workflows.loop.options import CANDIDATE_CHANNEL, DAY_S, LoopParts, LoopStart
from training.workflows.loop.requests import Trained
from training.workflows.loop.run_steps import Done, EndedError, RunSteps
from training.workflows.loop.state import End

SLACK_DAYS = 3
"""Days after the budget on which the last day's verdict may still come: a day counts once its hours are joined."""


def run_loop(checkpoints: Checkpoints, parts: LoopParts, start: LoopStart) -> dict[str, Any]:
    """Run the loop once, or go on with a run.

    Returns:
        ``run_id``, ``outcome`` (one of `Outcome`) and ``text``, the reason.

    Raises:
        StepFailedError: The end could not be recorded: the lease expires by itself.
    """
    steps = RunSteps(checkpoints, parts, start)
    flow = _Flow(steps, parts, start)
    try:
        end = flow.play()
    except EndedError as ended:
        end = ended.end
    except StepFailedError as error:
        end = End("failed", str(error))
    return steps.finish(end, flow.stop_experiments)


class _Flow:
    """The steps of one run, in order."""

    def __init__(self, steps: RunSteps, parts: LoopParts, start: LoopStart) -> None:
        self._steps = steps
        self._parts = parts
        self._options = parts.options
        self._bucket = parts.bucket
        self._start = start
        self._mover = parts.mover_of(start.run_id)
        names = experiment_names(start.run_id)
        self._trial, self._watch = (Comparison(parts, name, self._mover) for name in names)

    def play(self) -> End:
        """Run the steps; return the end of a run that comes to its last step."""
        steps, run_id = self._steps, self._start.run_id
        begun = steps.do("decide", self._decide)
        champion = begun["champion"]
        rides = collect(steps, self._parts, run_id, begun["first"], begun["last"])
        trained = train(steps, self._parts, run_id, begun["service"], rides)
        candidate, since = trained.model_version, datetime.fromisoformat(begun["at"])
        steps.do("gate", lambda: self._gate(trained, champion))
        shown = Place(CANDIDATE_CHANNEL, candidate, begun["in_candidate"], since)
        steps.do("candidate", lambda: self._show(shown, champion))
        self._follow("verdict", self._options.budget_days, partial(self._look, champion, candidate))
        if begun["approval"] == "manual":
            approve(steps, self._parts, run_id, candidate)
        place = Place(self._options.channel, candidate, champion, since)
        steps.do("promote", lambda: self._promote(place))
        if not self._options.watch_days:
            return End("promoted", f"{candidate} serves {place.channel}")
        steps.do("watch", lambda: self._start_watch(place))
        found = self._follow("watch", self._options.watch_days, partial(self._look_back, champion, candidate))
        if found["action"] == "roll back":
            steps.do("roll back", lambda: self._roll_back(place, found["text"]))
            return End("rolled back", found["text"])
        return End("promoted", f"{candidate} serves {place.channel}: {found['text']}")

    def stop_experiments(self, why: str) -> None:
        """Stop the experiments of the run that are there. Safe to repeat."""
        self._trial.stop(why)
        self._watch.stop(why)

    def _decide(self) -> Done:
        now = self._parts.clock()
        facts = read_facts(self._bucket, self._options, self._start.run_id, now)
        problem = refusal(facts, self._start, self._options, now)
        if problem or facts.champion is None or facts.last_day is None:
            return Done.over("refused", problem or "there is nothing to improve on")
        first = date.fromisoformat(facts.last_day) - timedelta(days=self._options.training_days - 1)
        found = {
            "at": now.isoformat(),
            "champion": facts.champion,
            "service": read_manifest(self._bucket, facts.champion).service,
            "in_candidate": read_channel(self._bucket, CANDIDATE_CHANNEL).model_version,
            "first": str(first),
            "last": facts.last_day,
            "approval": self._options.approval,  # as the run began: it may go on with other options
        }
        return Done("go", f"the rides of {first} to {facts.last_day} may improve on {facts.champion}", found)

    def _gate(self, trained: Trained, champion: str) -> Done:
        version, channel = trained.model_version, self._options.channel
        if not trained.passed:
            failed = ", ".join(trained.failed_rules) or "no rule named"
            return Done.over("rejected", f"{version} failed the gate ({failed}): {trained.reason}")
        if version == champion:
            return Done.over("kept", f"training gave the champion {champion} again")
        if moved := holds(self._bucket, channel, champion):
            return Done.over("yielded", moved)
        if has_served(self._bucket, channel, version):
            problem = f"{channel} has held {version} before, and it was taken out"
            return Done.over("kept", f"{problem}: a person may promote it")
        verdict = read_verdict(self._bucket, version, channel)
        if verdict is None or not verdict.passed or verdict.against != champion:
            return Done.over("rejected", f"{version} has no passing verdict of the gate against {champion}")
        return Done("passed", f"{version} passed the gate against {champion}: {trained.reason}")

    def _show(self, place: Place, champion: str) -> Done:
        """Put the candidate into its channel, and start the comparison."""
        moved = holds(self._bucket, self._options.channel, champion) or self._put(place)
        if moved:
            return Done.over("yielded", moved)
        self._trial.begin(champion, place.model_version, self._options.budget_days, FIRST_LOOK)
        text = f"{place.model_version} is in {place.channel}, and is compared with {champion}"
        return self._wait(Done("started", text, {"experiment": self._trial.name}))

    def _follow(self, name: str, n_days: int, look: Callable[[bool], Done]) -> dict[str, Any]:
        """Look once a day until there is something to do, and return what. The last look gives no "wait"."""
        n_looks = n_days + SLACK_DAYS
        found: dict[str, Any] = {}
        for number in range(1, n_looks + 1):
            self._steps.checkpoints.wait(f"{name} wait {number}", DAY_S)
            found = self._steps.do(f"{name} {number}", partial(look, number == n_looks))
            if found["action"] != "wait":
                break
        return found

    def _look(self, champion: str, candidate: str, is_last: bool) -> Done:
        channel = self._options.channel
        moved = holds(self._bucket, channel, champion) or holds(self._bucket, CANDIDATE_CHANNEL, candidate)
        found = self._trial.look(candidate)
        if moved or found.verdict is None:
            return Done.over("yielded", moved or found.problem)
        choice = after_verdict(found.verdict, self._options, is_last_look=is_last)
        if choice.action == "keep":
            return Done.over("kept", choice.text)
        facts = {"action": choice.action, "text": choice.text, "verdict": msgspec.to_builtins(found.verdict)}
        return self._wait(Done(choice.action, choice.text, facts))

    def _look_back(self, champion: str, candidate: str, is_last: bool) -> Done:
        moved = holds(self._bucket, self._options.channel, candidate)
        found = self._watch.look(champion)
        if moved or found.verdict is None:
            return Done.over("yielded", moved or found.problem)
        has_alarm = has_performance_alarm(self._bucket, self._options.channel, candidate)
        choice = after_watch(found.verdict, self._options, has_alarm=has_alarm, is_last_look=is_last)
        facts = {"action": choice.action, "text": choice.text, "verdict": msgspec.to_builtins(found.verdict)}
        return self._wait(Done(choice.action, choice.text, facts))

    def _promote(self, place: Place) -> Done:
        if moved := self._put(place):
            return Done.over("yielded", moved)
        return Done("promoted", f"{place.model_version} is promoted to {place.channel}, after {place.before}")

    def _start_watch(self, place: Place) -> Done:
        if moved := holds(self._bucket, place.channel, place.model_version):
            return Done.over("yielded", moved)
        days = self._options.watch_days
        self._watch.begin(place.model_version, place.before or "", days, FIRST_WATCH_LOOK)
        text = f"{place.before} is compared with {place.model_version} for {days} days"
        return self._wait(Done("started", text, {"experiment": self._watch.name}))

    def _roll_back(self, place: Place, why: str) -> Done:
        if moved := take_back(self._bucket, place, self._mover, self._parts.signer):
            return Done.over("yielded", moved)
        return Done("rolled back", f"{place.channel} is back at {place.before}: {why}")

    def _put(self, place: Place) -> str | None:
        return put(self._bucket, place, self._mover, self._parts.signer, self._options.activation_delay_s)

    def _wait(self, done: Done) -> Done:
        """Note the wait of a day that follows a step, unless there is something to do."""
        if done.outcome not in {"started", "wait"}:
            return done
        return done.waiting("the next look at the experiment", self._parts.clock() + timedelta(seconds=DAY_S))
