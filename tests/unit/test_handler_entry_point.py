"""What Lambda calls: settings from the environment, clients of its own, and failures logged, counted and raised."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lambda_function import handler
from lambda_function.aws.settings import Settings
from lambda_function.errors import ConfigurationError, StoreError
from lambda_function.handler import build_handler, lambda_handler
from tests.builders import invocation, ride_bytes, small_bundle
from tests.fakes import BUCKET, OUTPUT_STREAM, FakeClock, FakeContext, FakeKinesis, FakeS3, publish_bundle


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in {"OUTPUT_STREAM": OUTPUT_STREAM, "BUCKET": BUCKET, "MODEL_CHANNEL": "stable"}.items():
        monkeypatch.setenv(name, value)
    handler._cold_start.cache_clear()
    yield monkeypatch
    handler._cold_start.cache_clear()


@contextmanager
def server_that_denies() -> Iterator[str]:
    """An AWS on loopback that forbids everything, and its address."""

    class Deny(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Deny) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_missing_setting_fails_the_cold_start_by_name(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("BUCKET")
    with pytest.raises(ConfigurationError, match="BUCKET is missing"):
        lambda_handler(invocation(ride_bytes()), FakeContext(FakeClock()))


def test_invocation_that_fails_is_logged_counted_and_raised(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN the function with its own clients, in an account where it may do nothing
    environment.setenv("POWERTOOLS_SERVICE_NAME", "denied")
    with server_that_denies() as address:
        environment.setenv("AWS_ENDPOINT_URL", address)
        # WHEN a batch comes
        with pytest.raises(StoreError, match="403"):
            lambda_handler(invocation(ride_bytes("secret")), FakeContext(FakeClock()))
    # THEN it logs that once, without the payload, and counts it
    log, metrics = capsys.readouterr().out.splitlines()
    assert json.loads(log)["error"] == "StoreError"
    assert json.loads(metrics)["FailedInvocations"] == [1]
    assert "secret" not in log


def test_entry_point_answers_an_empty_batch(environment: pytest.MonkeyPatch) -> None:
    assert lambda_handler({"Records": []}, FakeContext(FakeClock())) == {"batchItemFailures": []}


def test_parts_are_put_together_around_two_clients() -> None:
    s3, kinesis = FakeS3(), FakeKinesis()
    publish_bundle(s3, small_bundle())
    settings = Settings(output_stream=OUTPUT_STREAM, bucket=BUCKET, model_channel="stable", service_name="parts")
    answer = build_handler(settings, s3, kinesis)(invocation(ride_bytes()), FakeContext(FakeClock()))
    assert answer == {"batchItemFailures": []}
    assert len(kinesis.taken) == 1
