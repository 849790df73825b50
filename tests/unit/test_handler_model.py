"""Which model a batch meets: a cold start has one or fails, and a new one that is spoilt leaves the old one at work."""

import json

import pytest

from lambda_function.core.events import decode_prediction
from lambda_function.errors import BundleError, StoreError
from tests.builders import invocation, ride_bytes, small_bundle
from tests.fakes import SERVICE_DOWN, FakeFunction, point_channel, publish_bundle, spoil_bundle


@pytest.fixture
def function() -> FakeFunction:
    return FakeFunction(small_bundle())


def test_prediction_says_which_model_made_it(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))
    ((key, data),) = function.kinesis.taken
    assert key == "256"
    assert decode_prediction(data).version == small_bundle().model_version


def test_cold_start_without_a_model_fails_and_the_next_one_works(function: FakeFunction) -> None:
    function.s3.script = [SERVICE_DOWN]
    with pytest.raises(StoreError, match=r"channels/stable\.json.*ServiceUnavailable"):
        function.invoke(invocation(ride_bytes()))
    assert function.kinesis.taken == []
    assert function.invoke(invocation(ride_bytes())) == ""


def test_cold_start_on_a_spoilt_bundle_fails(function: FakeFunction) -> None:
    spoil_bundle(function.s3, small_bundle())
    with pytest.raises(BundleError):
        function.invoke(invocation(ride_bytes()))


def test_model_switches_between_two_batches(function: FakeFunction) -> None:
    new = small_bundle(seed=2)
    function.invoke(invocation(ride_bytes()))
    publish_bundle(function.s3, new)
    function.invoke(invocation(ride_bytes()))
    function.clock.sleep(60)
    function.invoke(invocation(ride_bytes()))
    versions = [decode_prediction(data).version for _, data in function.kinesis.taken]
    old_version = small_bundle().model_version
    assert versions == [old_version, old_version, new.model_version]


def test_spoilt_new_bundle_leaves_the_old_model_at_work_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    function, new = FakeFunction(small_bundle()), small_bundle(seed=2)
    function.invoke(invocation(ride_bytes()))
    publish_bundle(function.s3, new)
    spoil_bundle(function.s3, new)
    function.clock.sleep(60)
    capsys.readouterr()
    assert function.invoke(invocation(ride_bytes())) == ""
    assert decode_prediction(function.kinesis.taken[-1][1]).version == small_bundle().model_version
    log, metrics = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert new.model_version in log["batch"]["problem"]
    assert metrics["ModelRefreshFailures"] == [1]


def test_unreadable_channel_leaves_the_old_model_at_work(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))
    point_channel(function.s3, b"{}")
    function.clock.sleep(60)
    assert function.invoke(invocation(ride_bytes())) == ""
