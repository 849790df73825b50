"""A stack without a model: its function says what is missing and what to do, and loses nothing until there is one."""

import re

import pytest

from lambda_function.aws.model_store import NoModelYetError
from tests.builders import invocation, ride_bytes, small_bundle
from tests.fakes import BUCKET, FakeFunction, publish_bundle


@pytest.fixture
def function() -> FakeFunction:
    function = FakeFunction(small_bundle())
    function.s3.objects.clear()
    return function


def test_function_without_a_model_names_the_channel_and_the_commands_that_help(function: FakeFunction) -> None:
    channel = re.escape(f"s3://{BUCKET}/channels/stable.json")
    commands = rf"`ridecast train`.*`ridecast models publish \S+ --bucket {BUCKET}`.*rides wait"

    with pytest.raises(NoModelYetError, match=f"{channel}.*{commands}"):
        function.invoke(invocation(ride_bytes()))


def test_rides_that_came_before_the_first_model_are_predicted_once_it_is_there(function: FakeFunction) -> None:
    with pytest.raises(NoModelYetError):
        function.invoke(invocation(ride_bytes()))
    publish_bundle(function.s3, small_bundle())

    assert function.invoke(invocation(ride_bytes())) == ""
    assert len(function.kinesis.taken) == 1
