"""The two experiments of a run: the candidate beside the champion, and after a promotion the predecessor beside it."""

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from training.experiments.experiment import DamagedExperimentError, read_experiment, verdict_of
from training.experiments.start import ExperimentOptions, start_experiment, stop_experiment
from training.experiments.verdict import Verdict
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.workflows.loop.options import LoopParts
from training.workflows.loop.state import WATCH


class Found(NamedTuple):
    """The verdict of an experiment, or why there is none."""

    verdict: Verdict | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An experiment of a run: one candidate beside a champion, as a shadow."""

    parts: LoopParts
    name: str
    mover: Mover

    def begin(self, champion: str, candidate: str, budget_days: int, first_look_days: int) -> None:
        """Start it, unless it is started."""
        options = ExperimentOptions(
            name=self.name,
            candidates=(candidate,),
            mode="shadow",
            margin_percent=self.parts.options.margin_percent,
            budget_days=budget_days,
            channel=self.parts.options.channel,
            champion=champion,
            first_look_days=min(first_look_days, budget_days),
            calibration_mode=self.parts.options.calibration_mode,
        )
        start_experiment(self.parts.bucket, options, self.mover)

    def look(self, candidate: str) -> Found:
        """Return its verdict; none if somebody else has stopped or removed it."""
        experiment = read_experiment(self.parts.bucket, self.name)
        if experiment is None:
            return Found(None, f"somebody has removed the experiment {self.name}")
        if stopped := experiment.stopped:
            return Found(None, f"{stopped.by} has stopped the experiment {self.name}: {stopped.why}")
        return Found(verdict_of(experiment, candidate))

    def stop(self, why: str) -> None:
        """Stop it if it is there and runs."""
        stop_if_there(self.parts.bucket, self.name, self.mover, why)


def stop_if_there(bucket: Bucket, name: str, mover: Mover, why: str) -> None:
    """Stop an experiment if it is there and runs. A damaged one gets no more days, and the end of a run doesn't wait.

    Raises:
        BucketError: S3 fails.
    """
    with suppress(DamagedExperimentError):
        if read_experiment(bucket, name):
            stop_experiment(bucket, name, mover, why)


def experiment_names(run_id: str) -> tuple[str, str]:
    """Return the names of a run's experiments: before the promotion, and of the watch after it.

    >>> experiment_names("20261129-194000")
    ('loop-20261129-194000', 'loop-20261129-194000-watch')
    """
    return f"loop-{run_id}", f"loop-{run_id}{WATCH}"
