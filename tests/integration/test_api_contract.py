"""`ridecast serve` as a process, held to its own OpenAPI document by schemathesis, and ended as by Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.builders import interval_bundle, ride_bytes

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "schemathesis"
SERVE = "from infra.cli.entry import main; main()"
N_EXAMPLES = 100  # some 250 requests and 5 s; a thousand take a minute and have found no more


@dataclass(frozen=True)
class Served:
    """A running `ridecast serve`."""

    process: subprocess.Popen[str]
    url: str

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Sends a signal; returns the exit code and the standard output."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    bundle = interval_bundle()
    folder = tmp_path / bundle.model_version
    folder.mkdir()
    for name, data in bundle.files.items():
        (folder / name).write_bytes(data)
    options = ["--bundle", str(folder), "--port", "0", "--log", str(tmp_path / "serve.log"), "--json"]
    command = [sys.executable, "-c", SERVE, "serve", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603 - our own
        try:
            assert process.stderr
            found = re.search(r"listening on (http://127\.0\.0\.1:\d+), model (\S+)", process.stderr.readline())
            assert found
            assert found[2] == bundle.model_version
            yield Served(process, found[1])
        finally:
            process.kill()


def test_api_conforms_to_its_own_document(served: Served, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"]
    options = ["--checks", "all", "--max-examples", str(N_EXAMPLES), "--seed", "1", "--workers", "1", "--no-color"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}

    run = subprocess.run(  # noqa: S603 - our own words
        [*command, f"{served.url}/openapi.json", *options],
        cwd=tmp_path,  # it leaves a cache behind
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"(\d{2,}) generated, \1 passed", run.stdout), run.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_with_what_it_did(served: Served, number: signal.Signals) -> None:
    headers = {"Content-Type": "application/json"}
    request = Request(f"{served.url}/predictions", ride_bytes(), headers)  # noqa: S310 - our own address
    with urlopen(request, timeout=60) as response:  # noqa: S310
        assert json.loads(response.read())["prediction"]["ride_id"] == 256

    code, out = served.end(number)

    assert code == 0
    version = interval_bundle().model_version
    assert json.loads(out.splitlines()[-1]) == {
        "url": served.url,
        "requests": 1,
        "errors": 0,
        "model_version": version,
    }
