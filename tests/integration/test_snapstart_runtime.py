"""SnapStart in AWS's own runtime client, with the built package: snapshot, restore, copies, failures."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from infra.local.aws import LocalAws
from infra.local.stack import DeployedStack
from infra.stack.package import PYTHON, host_architecture
from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from tests.builders import invocation, ride_bytes, small_bundle
from tests.kits.runtime_api import ERROR, INIT_ERROR, INVOCATION, PATIENCE_S, RESPONSE, RESTORE, RESTORE_ERROR
from tests.kits.snapstart import IMAGE, START_KEY, SnapStartFunction, started
from training.registry.signing import Signer

pytestmark = [
    pytest.mark.skipif(sys.version_info[:2] != PYTHON, reason="the function's runtime is Python 3.13"),
    pytest.mark.skipif(host_architecture() is None, reason="Lambda has no such processor"),
]

DONE: dict[str, list[str]] = {"batchItemFailures": []}


_numbers = count()


@pytest.fixture
def function(aws: LocalAws, stack: DeployedStack, package: Path) -> SnapStartFunction:
    number = next(_numbers)
    output = f"predictions-{number}"
    aws.client("kinesis").create_stream(StreamName=output, ShardCount=1)
    shared = SnapStartFunction(aws, stack, replace(stack.function, package=package))
    return shared.with_variables(MODEL_CHANNEL=f"channel-{number}", OUTPUT_STREAM=output)


def test_snapshot_contains_the_model_and_no_connection(function: SnapStartFunction, log: Path) -> None:
    kms = function.aws.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    version = function.publish(small_bundle(), Signer(kms, key))

    with started(function.with_variables(MODEL_SIGNING_KEY=key), log) as running:
        running.api.wait_for(RESTORE)
        n_connections = running.seen.n_connections(running.process.pid)

    manifest, signature, forest, golden = (
        f"GET /{function.stack.bucket}/{bundle_key(version, name)}" for name in (MANIFEST, SIGNATURE, FOREST, GOLDEN)
    )
    assert running.seen.asked_since(0) == [function.channel_request(), manifest, signature, "Verify", forest, golden]
    assert n_connections == 0
    assert function.versions() == []


def test_restored_function_uses_the_present_model_and_credentials(
    function: SnapStartFunction, log: Path, record_property: Callable[[str, object], None]
) -> None:
    function.publish(small_bundle())

    with started(function, log) as running:
        restoring = running.api.wait_for(RESTORE)
        n_before = len(running.seen.requests)
        newer = function.publish(small_bundle(seed=2))
        running.api.access_key = "AKIDOFTHERESTORE"
        start_s = time.perf_counter()
        restoring.answer()
        asking = running.api.wait_for(INVOCATION)
        record_property("restore_ms", (time.perf_counter() - start_s) * 1000)
        outcome = running.api.invoke(asking, invocation(ride_bytes()))

    assert (outcome.name, outcome.body) == (RESPONSE, DONE)
    assert function.versions() == [newer]
    asked = running.seen.asked_since(n_before)
    assert (asked[0], asked[-1]) == (function.channel_request(), "PutRecords")
    keys = [request.access_key for request in running.seen.requests]
    assert set(keys[:n_before]) == {START_KEY}
    assert set(keys[n_before:]) == {"AKIDOFTHERESTORE"}


def test_copies_of_one_snapshot_read_the_channel_and_do_not_share_randomness(
    function: SnapStartFunction, log: Path
) -> None:
    version = function.publish(small_bundle())

    with started(function, log, IMAGE) as running:
        copies = []
        for _ in range(2):
            running.api.wait_for(RESTORE).answer()
            copies.append(running.api.wait_for(INVOCATION))
        n_before = len(running.seen.requests)
        outcomes = [running.api.invoke(copy, invocation(ride_bytes())) for copy in copies]

    assert running.seen.asked_since(n_before) == [function.channel_request(), "PutRecords"] * 2
    assert function.versions() == [version, version]
    assert outcomes[0].body["random"] != outcomes[1].body["random"]


def test_snapshot_without_a_model_serves_the_model_published_before_its_restore(
    function: SnapStartFunction, log: Path
) -> None:
    with started(function, log) as running:
        restoring = running.api.wait_for(RESTORE)
        version = function.publish(small_bundle())
        restoring.answer()
        outcome = running.predict_one()

    assert "snapshot without a model" in log.read_text()
    assert outcome.body == DONE
    assert function.versions() == [version]


def test_restored_function_without_a_model_names_the_remedy_and_works_after_it(
    function: SnapStartFunction, log: Path
) -> None:
    with started(function, log) as running:
        running.api.wait_for(RESTORE).answer()
        before = running.predict_one()
        version = function.publish(small_bundle())
        after = running.predict_one()

    assert (before.name, before.body["errorType"]) == (ERROR, "NoModelYetError")
    assert "ridecast models release" in before.body["errorMessage"]
    assert after.body == DONE
    assert function.versions() == [version]


def test_missing_setting_fails_the_snapshot_by_name(function: SnapStartFunction, log: Path) -> None:
    with started(function.with_variables(OUTPUT_STREAM=""), log) as running:
        problem = running.api.wait_for(INIT_ERROR, RESTORE)
        assert (problem.name, problem.error_type) == (INIT_ERROR, "Runtime.BeforeSnapshotError")
        assert "OUTPUT_STREAM is missing: set it in template" in problem.body["errorMessage"]
        assert running.process.wait(PATIENCE_S) == 64


def test_restore_without_credentials_fails_before_the_first_ride(function: SnapStartFunction, log: Path) -> None:
    function.publish(small_bundle())

    with started(function, log) as running:
        restoring = running.api.wait_for(RESTORE)
        running.api.access_key = ""
        restoring.answer()
        problem = running.api.wait_for(RESTORE_ERROR, INVOCATION)
        assert (problem.name, problem.error_type) == (RESTORE_ERROR, "Runtime.AfterRestoreError")
        assert problem.body["errorType"] == "CredentialRetrievalError"
        assert running.process.wait(PATIENCE_S) == 65
