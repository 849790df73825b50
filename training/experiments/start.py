"""Start and stop experiments.

A split moves its channel before its object is stored, and stops it before it is recorded as stopped. So a command that
ends in between is completed by repeating it.
"""

from dataclasses import dataclass
from datetime import UTC

import msgspec

from lambda_function.core.channel import ACTIVATION_DELAY_S
from training.errors import UserError, did_you_mean
from training.experiments.experiment import (
    NAME,
    Experiment,
    Mode,
    Stopped,
    change_experiment,
    decode_experiment,
    encode_experiment,
    experiment_key,
    read_experiment,
)
from training.experiments.verdict import Rules
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.monitor.status import load_status
from training.monitoring.new_york_days import day_of, first_whole_day, training_end
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import Mover, end_split, split_channel
from training.registry.signing import Signer
from training.registry.versions import read_channels, read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOptions:
    """What an experiment is to compare.

    Attributes:
        name: Of the experiment; it is never used again.
        candidates: Model versions.
        mode: Shadow or split.
        margin_percent: Of the champion's mean squared error: a smaller difference is none.
        budget_days: After so many days there is an answer.
        channel: Whose champion and calibration count.
        champion: A model version. By default the channel's newest model.
        first_look_days: No answer before so many days.
        calibration_mode: By default the one that the monitor works with.
        share: Of the rides that the candidate of a split serves, between 0 and 1. It may grow later.
    """

    name: str
    candidates: tuple[str, ...]
    mode: Mode = "shadow"
    margin_percent: float = Rules().margin_percent
    budget_days: int = Rules().budget_days
    channel: str = "stable"
    champion: str | None = None
    first_look_days: int = Rules().first_look_days
    calibration_mode: CalibrationMode | None = None
    share: float | None = None

    @property
    def rules(self) -> Rules:
        """The rules of the verdict; UserError if they make no sense."""
        return Rules(
            margin_percent=self.margin_percent, budget_days=self.budget_days, first_look_days=self.first_look_days
        )


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a split moves its channel: as `promote` does.

    Attributes:
        signer: If the stack serves signed models only.
        activation_delay_s: The time that functions may need to read the channel.
    """

    signer: Signer | None = None
    activation_delay_s: float = ACTIVATION_DELAY_S


DEFAULT_SPLIT = SplitOptions()


def start_experiment(
    bucket: Bucket, options: ExperimentOptions, mover: Mover, split: SplitOptions = DEFAULT_SPLIT
) -> Experiment:
    """Start an experiment, and return it. One of the same name with the same options is returned as it is.

    A split moves the channel first, and the same options with a larger share let the share grow.

    Args:
        bucket: The stack's bucket.
        options: What to compare.
        mover: Who starts it, and the clock.
        split: How a split moves its channel.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The manifest of a version does not decode.
        UserError: An option makes no sense, the channel holds no model, an experiment of the name has other options, or
            the channel can't be split: as in `split_channel`.
        BucketError: S3 fails, the object of the name is no experiment, or somebody else moves the channel.
        KmsError: KMS did not check the signature of a split's candidate.
    """
    _check_options(options)
    found = read_experiment(bucket, options.name)
    if found is not None:
        _check_same(found, options)
        return _grown(bucket, found, options, mover, split)
    made = _new(bucket, options, mover)
    if made.mode == "split":
        _split(bucket, made, mover, split)
    key = experiment_key(options.name)
    stored = decode_experiment(bucket, key, bucket.write_once(key, encode_experiment(made)))
    _check_same(stored, options)
    return stored


def _grown(
    bucket: Bucket, found: Experiment, options: ExperimentOptions, mover: Mover, split: SplitOptions
) -> Experiment:
    """Let a running split have the share that is asked for, and return the experiment."""
    if options.share is None or found.share is None:
        return found
    if not found.is_running or not is_splitting(
        bucket, found
    ):  # as after a rollback: a repeated command splits no more
        if options.share > found.share:
            ended = "has ended" if not found.is_running else f"no longer splits {found.channel}"
            raise UserError(f"experiment {found.name} {ended}, so its share does not grow", "start another")
        return found
    _split(bucket, msgspec.structs.replace(found, share=options.share), mover, split)
    return change_experiment(bucket, found.name, lambda one: msgspec.structs.replace(one, share=options.share))


def _split(bucket: Bucket, experiment: Experiment, mover: Mover, options: SplitOptions) -> None:
    state = read_channel(bucket, experiment.channel).state
    held = state.model_version if state else "nothing"
    if held != experiment.champion:
        problem = f"{experiment.channel} holds {held}, and not {experiment.champion}"
        raise UserError(problem, "a split compares with the model that the channel holds")
    assert experiment.share is not None  # noqa: S101 - it is a split
    split_channel(
        bucket,
        experiment.channel,
        experiment.candidates[0],
        experiment.share,
        experiment.salt,
        signer=options.signer,
        mover=mover,
        activation_delay_s=options.activation_delay_s,
    )


def stop_experiment(
    bucket: Bucket, name: str, mover: Mover, why: str, split: SplitOptions = DEFAULT_SPLIT
) -> Experiment:
    """Stop an experiment, and return it. One that is stopped already stays as it is.

    The champion of a split serves all rides again, after the activation delay.

    Raises:
        UserError: There is no such experiment.
        BucketError: S3 fails, the object is no experiment, or somebody else moves the channel.
    """

    def stop(experiment: Experiment) -> Experiment:
        if experiment.stopped:
            return experiment
        at = mover.clock().astimezone(UTC).isoformat(timespec="seconds")
        return msgspec.structs.replace(experiment, stopped=Stopped(at, mover.name, why))

    found = read_experiment(bucket, name)
    if found and is_splitting(bucket, found):
        end_split(bucket, found.channel, mover=mover, activation_delay_s=split.activation_delay_s)
    return change_experiment(bucket, name, stop)


def is_splitting(bucket: Bucket, experiment: Experiment) -> bool:
    """Return whether the channel serves a share of its newest rides with the experiment's candidate.

    Raises:
        BucketError: S3 fails, or the channel's object is no channel.
    """
    if experiment.mode != "split":
        return False
    state = read_channel(bucket, experiment.channel).state
    return state is not None and state.segments[0].salt == experiment.salt


def _new(bucket: Bucket, options: ExperimentOptions, mover: Mover) -> Experiment:
    now = mover.clock().astimezone(UTC)
    champion = options.champion or _newest(bucket, options.channel)
    if champion in options.candidates:
        raise UserError(f"{champion} is the champion already", "name another candidate")
    versions = (champion, *options.candidates)
    ends = [training_end(read_manifest(bucket, version)) for version in versions]
    return Experiment(
        name=options.name,
        mode=options.mode,
        channel=options.channel,
        champion=champion,
        candidates=options.candidates,
        calibration_mode=options.calibration_mode or _calibration_mode(bucket),
        rules=options.rules,
        share=options.share,
        salt=options.name if options.mode == "split" else "",
        started_at=now.isoformat(timespec="seconds"),
        started_by=mover.name,
        first_day=max(first_whole_day(now), *map(day_of, ends)),
    )


def _newest(bucket: Bucket, channel: str) -> str:
    state = read_channel(bucket, channel).state
    if state is None:
        hint = did_you_mean(channel, read_channels(bucket)) or "release one, or name a champion"
        raise UserError(f"{channel} holds no model to compare with", hint)
    return state.model_version


def _calibration_mode(bucket: Bucket) -> CalibrationMode:
    """Return how the channel's model is calibrated: as the monitor's status says, daily if there is none."""
    status = load_status(bucket)
    if status is None or status.calibration.state == "unknown":
        return CalibrationMode.DAILY
    return CalibrationMode.OFF if status.calibration.state == "off" else status.calibration.mode


def _check_options(options: ExperimentOptions) -> None:
    if not NAME.fullmatch(options.name):
        raise UserError(f"{options.name!r} is no name of an experiment", "use lower-case letters, digits, . - and _")
    if not options.candidates or len(set(options.candidates)) < len(options.candidates):
        raise UserError("an experiment needs one candidate or several different ones", "name each once")
    if options.mode == "split" and (options.share is None or len(options.candidates) > 1):
        raise UserError("a split needs one candidate and its share of the rides", "give --share 10%, for example")
    if options.mode == "shadow" and options.share is not None:
        raise UserError("a shadow scores every ride, so it has no share", "split the channel with --mode split")


def _check_same(found: Experiment, options: ExperimentOptions) -> None:
    """Check that an experiment is the one that is asked for."""
    asked = (options.mode, options.channel, options.candidates, options.rules)
    stored = (found.mode, found.channel, found.candidates, found.rules)
    is_same = asked == stored and options.champion in {None, found.champion}
    if not is_same or options.calibration_mode not in {None, found.calibration_mode}:
        problem = f"there is an experiment {found.name} with other options, started at {found.started_at}"
        raise UserError(problem, "give this one another name")
    if options.share is not None and found.share is not None and options.share < found.share:
        problem = f"the candidate of {found.name} has {found.share:.2%} of the rides, and a share only grows"
        raise UserError(problem, "stop this experiment, and start another")
