"""Experiments from start to stop: days from labelled rides, once and in order, whatever fails on the way."""

import pytest

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import feature_matrix
from tests.builders_experiments import FIRST_DAY, ExperimentStack, squared_error


def plain(model: ModelBundle) -> Callable[[LabelledHour], NDArray[np.float64]]:
    """Return what predicts an hour with a model as it was trained."""
    return lambda hour: model.served_minutes(hour.rides, feature_matrix(hour.rides))


def test_a_day_is_appended_once_all_its_hours_are_joined() -> None:
    stack = ExperimentStack()
    assert stack.start().first_day == FIRST_DAY
    hours = stack.store_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    (done,) = stack.good_run()
    assert (done.n_hours, done.days, done.n_left) == (24, (FIRST_DAY,), 0)
    experiment = stack.read()
    (day,) = experiment.days
    assert experiment.so_far == ()
    models = [one.model for one in (stack.champion, *stack.candidates)]
    assert [one.n_rides for one in day.losses] == [72, 72]
    for loss, model in zip(day.losses, models, strict=True):
        assert loss.sum_squared_error == pytest.approx(squared_error(hours, plain(model)), rel=1e-12)
    assert stack.good_run()[0].days == ()
