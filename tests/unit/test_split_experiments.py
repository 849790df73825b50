"""Split experiments: the channel moves, days hold the arms' own rides, and the share grows."""

from datetime import timedelta

import msgspec
import pytest

from lambda_function.core.channel import bucket_of
from tests.builders_experiments import FIRST_DAY, NAME, ExperimentStack
from training.errors import UserError
from training.experiments.experiment import Loss, experiment_names, verdict_of
from training.experiments.start import is_splitting, stop_experiment
from training.monitoring.new_york_days import hours_of_day
from training.registry.channel_history import read_channel
from training.registry.channels import Mover, rollback

NEXT_DAY = FIRST_DAY + timedelta(days=1)


def split(share: float = 0.3) -> ExperimentStack:
    """A stack whose channel is split since some hours before the first day."""
    stack = ExperimentStack()
    stack.now -= timedelta(hours=5)
    assert stack.start_split(share).first_day == FIRST_DAY
    return stack


def test_days_hold_the_rides_of_each_arm_as_they_were_served() -> None:
    stack = split()
    stack.serve_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    stack.good_run()
    (day,) = stack.read().days
    champion, candidate = day.losses
    ids = [1_000_000 * FIRST_DAY.day + 1000 * place + number for place in range(24) for number in range(20)]
    assert day.share == 0.3
    assert candidate.n_rides == sum(bucket_of(NAME, one) < 3000 for one in ids)
    assert champion.n_rides == len(ids) - candidate.n_rides
    verdict = verdict_of(stack.read(), stack.candidates[0].model_version)
    assert (verdict.answer, verdict.n_days) == ("running", 1)


def test_a_share_grows_and_the_day_on_which_it_grows_does_not_count() -> None:
    stack = split(0.2)
    stack.serve_day(FIRST_DAY, n_hours=12)
    stack.now = hours_of_day(FIRST_DAY)[12].start + timedelta(minutes=30)
    assert stack.start_split(0.5).share == 0.5
    stack.serve_day(FIRST_DAY)
    stack.serve_day(NEXT_DAY)
    stack.after(NEXT_DAY)
    stack.good_run()
    first, second = stack.read().days
    assert (first.share, second.share) == (None, 0.5)
    assert sum(one.n_rides for one in first.losses) == 23 * 20  # without the hour in which it grew
    assert verdict_of(stack.read(), stack.candidates[0].model_version).n_days == 1
    with pytest.raises(UserError, match=r"has 50\.00% of the rides, and a share only grows"):
        stack.start_split(0.4)
    stop_experiment(stack.bucket, NAME, stack.mover, "enough")
    assert stack.start_split(0.5).stopped
    with pytest.raises(UserError, match="experiment trial has ended, so its share does not grow"):
        stack.start_split(0.6)


def test_hours_that_the_channel_does_not_split_have_no_losses() -> None:
    stack = split()
    stack.serve_day(FIRST_DAY, n_hours=12)
    stack.now = hours_of_day(FIRST_DAY)[12].start
    rollback(stack.bucket, "stable", stack.champion.model_version, mover=stack.mover)
    stack.serve_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    stack.good_run()
    (day,) = stack.read().days
    assert ([one.n_rides for one in day.losses], day.share) == ([0, 0], None)


def test_an_arm_that_loses_rides_voids_the_verdict() -> None:
    stack = split(0.5)
    stack.serve_day(FIRST_DAY, n_rides=40)
    stack.after(FIRST_DAY)
    stack.good_run()
    experiment = stack.read()
    (day,) = experiment.days
    lost = msgspec.structs.replace(day, losses=(day.losses[0], Loss(10, 100.0)))
    voided = msgspec.structs.replace(experiment, days=(lost,))
    assert verdict_of(voided, stack.candidates[0].model_version).answer == "void"


def test_a_stop_ends_the_split_and_the_record_of_another_does_not() -> None:
    stack = split()
    assert is_splitting(stack.bucket, stack.read())
    stack.now += timedelta(days=1)
    assert stop_experiment(stack.bucket, NAME, stack.mover, "enough").stopped
    state = read_channel(stack.bucket, "stable").state
    assert state
    assert (state.why, state.model_version, state.segments[0].candidate) == (
        "split ended",
        stack.champion.model_version,
        None,
    )
    stack.start_split(0.4, "second")
    stop_experiment(stack.bucket, NAME, stack.mover, "again")
    assert is_splitting(stack.bucket, stack.read("second"))


def test_a_refused_split_leaves_no_experiment() -> None:
    stack = split()
    with pytest.raises(UserError, match="is split between"):
        stack.start_split(0.3, "second")
    assert experiment_names(stack.bucket) == (NAME,)
    with pytest.raises(UserError, match="a split needs one candidate and its share"):
        stack.start("third", mode="split")
    with pytest.raises(UserError, match="a shadow scores every ride, so it has no share"):
        stack.start("third", share=0.1)


def test_a_start_that_ended_after_the_move_is_completed_by_repeating_it() -> None:
    stack = split()
    body = stack.s3.objects.pop(f"experiments/{NAME}.json")
    moves = len(read_channel(stack.bucket, "stable").state.segments)  # type: ignore[union-attr]
    stack.start_split(0.3)
    assert stack.s3.objects[f"experiments/{NAME}.json"] == body
    assert len(read_channel(stack.bucket, "stable").state.segments) == moves  # type: ignore[union-attr]


def test_repeating_a_start_does_not_bring_back_a_candidate_that_was_rolled_back() -> None:
    stack = split()
    stack.now += timedelta(hours=1)
    rollback(stack.bucket, "stable", stack.champion.model_version, mover=stack.mover)
    stack.now += timedelta(hours=1)
    assert stack.start_split(0.3) == stack.read()
    with pytest.raises(UserError, match="no longer splits stable, so its share does not grow"):
        stack.start_split(0.5)
    state = read_channel(stack.bucket, "stable").state
    assert state
    assert (state.why, state.segments[0].candidate) == ("rollback", None)


def test_a_split_compares_with_the_model_that_the_channel_holds() -> None:
    stack = split()
    stop_experiment(stack.bucket, NAME, Mover("ada", lambda: stack.now), "")
    with pytest.raises(UserError, match="a split compares with the model that the channel holds"):
        stack.start(
            "other",
            mode="split",
            share=0.1,
            champion=stack.candidates[0].model_version,
            candidates=(stack.champion.model_version,),
        )
