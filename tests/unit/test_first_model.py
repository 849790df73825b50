"""A stack without a model: its function reports what to do, and loses no ride until there is a model."""

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


def test_error_without_a_model_names_the_channel_and_the_commands_to_run(function: FakeFunction) -> None:
    channel = re.escape(f"s3://{BUCKET}/channels/stable.json")
    commands = rf"`ridecast train`.*`ridecast models release \S+ --bucket {BUCKET}`.*rides wait"

    with pytest.raises(NoModelYetError, match=f"{channel}.*{commands}"):
        function.invoke(invocation(ride_bytes()))


def test_rides_sent_before_the_first_model_are_predicted_after_its_release(function: FakeFunction) -> None:
    with pytest.raises(NoModelYetError):
        function.invoke(invocation(ride_bytes()))
    publish_bundle(function.s3, small_bundle())

    assert function.invoke(invocation(ride_bytes())) == ""
    assert len(function.kinesis.taken) == 1
