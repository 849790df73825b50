"""SnapStart in AWS's own runtime client, with the built package: snapshot, restore, copies, and what may go wrong."""

import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from infra.local.aws import LocalAws
from infra.local.runtime.function import function_config
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import PYTHON, build_for_host, host_architecture
from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from tests.builders import invocation, ride_bytes, small_bundle
from tests.kits.runtime_api import ERROR, INIT_ERROR, INVOCATION, PATIENCE_S, RESPONSE, RESTORE, RESTORE_ERROR
from tests.kits.snapstart import IMAGE, START_KEY, World, started
from training.registry.signing import Signer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info[:2] != PYTHON, reason="the function's runtime is Python 3.13"),
    pytest.mark.skipif(host_architecture() is None, reason="Lambda has no such processor"),
]

DONE: dict[str, list[str]] = {"batchItemFailures": []}


@pytest.fixture(scope="module")
def stack(aws: LocalAws) -> DeployedStack:
    return deploy(aws.client)


@pytest.fixture(scope="module")
def package() -> Path:
    return build_for_host().folder


_numbers = count()


@pytest.fixture
def world(aws: LocalAws, stack: DeployedStack, package: Path) -> World:
    number = next(_numbers)
    output = f"predictions-{number}"
    aws.client("kinesis").create_stream(StreamName=output, ShardCount=1)
    anywhere = World(aws, stack, function_config(aws, stack, package))
    return anywhere.but(MODEL_CHANNEL=f"channel-{number}", OUTPUT_STREAM=output)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "function.log"


def test_snapshot_has_the_model_in_it_and_no_connection(world: World, log: Path) -> None:
    kms = world.aws.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    version = world.publish(small_bundle(), Signer(kms, key))

    with started(world.but(MODEL_SIGNING_KEY=key), log) as function:
        function.api.wait_for(RESTORE)
        n_connections = function.seen.n_connections(function.process.pid)

    manifest, signature, forest, golden = (
        f"GET /{world.stack.bucket}/{bundle_key(version, name)}" for name in (MANIFEST, SIGNATURE, FOREST, GOLDEN)
    )
    assert function.seen.asked_since(0) == [world.channel(), manifest, signature, "Verify", forest, golden]
    assert n_connections == 0
    assert world.versions() == []


def test_restored_function_predicts_with_the_model_and_the_credentials_of_now(
    world: World, log: Path, record_property: Callable[[str, object], None]
) -> None:
    world.publish(small_bundle())

    with started(world, log) as function:
        restoring = function.api.wait_for(RESTORE)
        n_before = len(function.seen.requests)
        newer = world.publish(small_bundle(seed=2))
        function.api.access_key = "AKIDOFTHERESTORE"
        start_s = time.perf_counter()
        restoring.answer()
        asking = function.api.wait_for(INVOCATION)
        record_property("restore_ms", (time.perf_counter() - start_s) * 1000)
        outcome = function.api.invoke(asking, invocation(ride_bytes()))

    assert (outcome.name, outcome.body) == (RESPONSE, DONE)
    assert world.versions() == [newer]
    asked = function.seen.asked_since(n_before)
    assert (asked[0], asked[-1]) == (world.channel(), "PutRecords")
    keys = [request.access_key for request in function.seen.requests]
    assert set(keys[:n_before]) == {START_KEY}
    assert set(keys[n_before:]) == {"AKIDOFTHERESTORE"}


def test_copies_of_one_snapshot_all_look_at_the_channel_and_do_not_share_randomness(world: World, log: Path) -> None:
    version = world.publish(small_bundle())

    with started(world, log, IMAGE) as function:
        copies = []
        for _ in range(2):
            function.api.wait_for(RESTORE).answer()
            copies.append(function.api.wait_for(INVOCATION))
        n_before = len(function.seen.requests)
        outcomes = [function.api.invoke(copy, invocation(ride_bytes())) for copy in copies]

    assert function.seen.asked_since(n_before) == [world.channel(), "PutRecords"] * 2
    assert world.versions() == [version, version]
    assert outcomes[0].body["random"] != outcomes[1].body["random"]


def test_snapshot_without_a_model_serves_the_one_published_before_it_is_restored(world: World, log: Path) -> None:
    with started(world, log) as function:
        restoring = function.api.wait_for(RESTORE)
        version = world.publish(small_bundle())
        restoring.answer()
        outcome = function.predict_one()

    assert "snapshot without a model" in log.read_text()
    assert outcome.body == DONE
    assert world.versions() == [version]


def test_restored_without_a_model_it_says_what_to_do_and_works_once_that_is_done(world: World, log: Path) -> None:
    with started(world, log) as function:
        function.api.wait_for(RESTORE).answer()
        before = function.predict_one()
        version = world.publish(small_bundle())
        after = function.predict_one()

    assert (before.name, before.body["errorType"]) == (ERROR, "NoModelYetError")
    assert "ridecast models publish" in before.body["errorMessage"]
    assert after.body == DONE
    assert world.versions() == [version]


def test_missing_setting_fails_the_snapshot_by_name(world: World, log: Path) -> None:
    with started(world.but(OUTPUT_STREAM=""), log) as function:
        problem = function.api.wait_for(INIT_ERROR, RESTORE)
        assert (problem.name, problem.error_type) == (INIT_ERROR, "Runtime.BeforeSnapshotError")
        assert "OUTPUT_STREAM is missing: set it in template" in problem.body["errorMessage"]
        assert function.process.wait(PATIENCE_S) == 64


def test_restore_without_credentials_fails_before_it_is_given_a_ride(world: World, log: Path) -> None:
    world.publish(small_bundle())

    with started(world, log) as function:
        restoring = function.api.wait_for(RESTORE)
        function.api.access_key = ""
        restoring.answer()
        problem = function.api.wait_for(RESTORE_ERROR, INVOCATION)
        assert (problem.name, problem.error_type) == (RESTORE_ERROR, "Runtime.AfterRestoreError")
        assert problem.body["errorType"] == "CredentialRetrievalError"
        assert function.process.wait(PATIENCE_S) == 65
