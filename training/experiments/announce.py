"""Say what an experiment has answered: as a sentence, and as an event, once for each answer.

Which answers were announced is a part of the experiment's object. So an event that EventBridge did not take is sent
again by the next run: a receiver may see it twice, with the same `event_id`, but misses none.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from training.errors import UserError
from training.experiments.experiment import Experiment, answers_of, change_experiment
from training.experiments.verdict import Verdict
from training.monitoring.monitor.events import EventBus, send_events
from training.monitoring.monitor.status import Event
from training.registry.bucket import Bucket

EXPERIMENT_ANSWER = "ridecast experiment answer"

_WORDS = {
    "better": "is better than",
    "worse": "is worse than",
    "equivalent": "is as good as",
    "undecided": "is not known to be better or worse than",
    "void": "can't be compared with",
    "running": "is compared with",
}


def answer_text(experiment: Experiment, candidate: str, verdict: Verdict) -> str:
    """Return what a verdict says, as a sentence."""
    text = f"{candidate} {_WORDS[verdict.answer]} {experiment.champion}"
    figures = [f"{verdict.n_days} days"] if verdict.n_days else ["no day yet"]
    if verdict.mean_percent is not None:
        side = "lower" if verdict.mean_percent >= 0 else "higher"
        figures.append(f"its mean squared error is {abs(verdict.mean_percent):.1f}% {side}")
    if verdict.low_percent is not None and verdict.high_percent is not None:
        figures.append(f"the interval of the gain is {verdict.low_percent:+.1f}% to {verdict.high_percent:+.1f}%")
    reason = f"; {verdict.needed}" if verdict.answer in {"undecided", "void"} else ""
    return f"{text} ({', '.join(figures)}){reason}"


def announce_answers(bucket: Bucket, experiment: Experiment, bus: EventBus, stack: str, now: datetime) -> int:
    """Send an event for each answer that was not announced yet, and return how many there were.

    Raises:
        UserError: EventBridge did not take one; the next run sends it again.
        BucketError: S3 fails; the next run sends them once more.
    """
    new = unannounced(experiment)
    if not new:
        return 0
    events = [answer_event(experiment, candidate, verdict, stack, now) for candidate, verdict in new.items()]
    sent = send_events(bus, events)
    if sent.problem:
        problem = f"EventBridge did not take {len(sent.pending)} events ({sent.problem})"
        raise UserError(problem, "they are sent again at the next run")
    answers = {candidate: verdict.answer for candidate, verdict in new.items()}
    change_experiment(bucket, experiment.name, lambda one: _announced(one, answers))
    return len(events)


def unannounced(experiment: Experiment) -> dict[str, Verdict]:
    """Return the answers that were not announced, by candidate."""
    answers = answers_of(experiment)
    return {name: verdict for name, verdict in answers.items() if experiment.announced.get(name) != verdict.answer}


def _announced(experiment: Experiment, answers: Mapping[str, str]) -> Experiment:
    return msgspec.structs.replace(experiment, announced={**experiment.announced, **answers})


def answer_event(experiment: Experiment, candidate: str, verdict: Verdict, stack: str, now: datetime) -> Event:
    """Return the event of an answer; its id is the same whenever it is sent."""
    place = f"Stack {stack}, " if stack else ""
    return Event(
        event_id=f"experiments/{experiment.name}/{candidate}/{verdict.answer}",
        time=now.isoformat(timespec="seconds"),
        detail_type=EXPERIMENT_ANSWER,
        detail={
            "stack": stack,
            "experiment": experiment.name,
            "channel": experiment.channel,
            "mode": experiment.mode,
            "champion": experiment.champion,
            "candidate": candidate,
            "answer": verdict.answer,
            "mean_percent": verdict.mean_percent,
            "low_percent": verdict.low_percent,
            "high_percent": verdict.high_percent,
            "n_days": verdict.n_days,
            "text": f"{place}experiment {experiment.name}: {answer_text(experiment, candidate, verdict)}.",
        },
    )
