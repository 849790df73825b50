"""The trainer's package: within Lambda's limit, and a fit in it gives the bundle of the full environment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.stack.package import PYTHON, TRAINER, Package, build_for_host, build_once, host_architecture
from infra.stack.template import ROOT
from tests.builders import FEBRUARY, JANUARY
from tests.builders_labelled import hourly_files, labelled_bucket, rows_of
from training.data.synthetic import synthetic_rides
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3
from training.registry.versions import read_stored
from training.workflows.collected import collect
from training.workflows.loop.requests import CollectRequest, Trained, TrainRequest
from training.workflows.retrain import retrain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info[:2] != PYTHON, reason="sam build needs the functions' Python"),
    pytest.mark.skipif(host_architecture() is None, reason="Lambda has no processor like this machine's"),
]

MAX_BYTES = 250_000_000
"""Lambda takes 262,144,000."""

# The stand-in for S3 is read from its file: nothing of the repository is on the path.
TRAIN_ALONE = """
import importlib.util, json, sys
package, stand_in, folder, event = sys.argv[1:]
sys.path[:0] = [package]
spec = importlib.util.spec_from_file_location("stand_in", stand_in)
module = sys.modules["stand_in"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from pathlib import Path
from training.functions.settings import TrainSettings
from training.functions.train import build_trainer

class Context:
    def get_remaining_time_in_millis(self):
        return 900_000

trainer = build_trainer(TrainSettings(bucket="b"), module.FolderS3(Path(folder)), None)
answer = trainer(json.loads(event), Context())
homes = {name: sys.modules[name].__file__ for name in ("sklearn", "scipy", "numpy", "botocore")}
print(json.dumps({"answer": answer, "homes": homes}))
"""


@pytest.fixture(scope="module")
def package() -> Package:
    return build_for_host(TRAINER)


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_package_is_within_lambdas_limit_with_its_bytecode(architecture: str) -> None:
    built = build_once(TRAINER, architecture)
    assert built.n_bytes <= MAX_BYTES
    assert {"events", "kinesis", "kms", "lambda", "s3", "sqs"} == {
        path.name for path in (built.folder / "botocore" / "data").iterdir() if path.is_dir()
    }


def test_fit_in_the_package_gives_the_bundle_of_the_full_environment(package: Package, tmp_path: Path) -> None:
    request, files = collected()
    (tmp_path / "loop" / "rides").mkdir(parents=True)
    (tmp_path / request.rides_key).write_bytes(files[request.rides_key])
    event = json.dumps(msgspec.to_builtins(request))
    isolated = [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", TRAIN_ALONE]
    command = [
        *isolated,
        str(package.folder),
        str(ROOT / "training" / "registry" / "folder_s3.py"),
        str(tmp_path),
        event,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})  # noqa: S603 - our own words
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert all(home.startswith(str(package.folder)) for home in found["homes"].values())

    here = labelled_bucket(files)
    wanted = retrain(here, request)

    answer = msgspec.convert(found["answer"], Trained)
    assert (answer.model_version, answer.n_rides) == (wanted.model_version, wanted.n_rides)
    there = read_stored(Bucket(FolderS3(tmp_path), "b"), answer.model_version)
    assert there.files == read_stored(here, wanted.model_version).files


def collected() -> tuple[TrainRequest, dict[str, bytes]]:
    """Return a request to train on two made-up months, and the object with their rides."""
    months = synthetic_rides(JANUARY, 1500, seed=7), synthetic_rides(FEBRUARY, 1500, seed=7)
    rows = [row for month in months for row in rows_of(month)]
    noon = ({**row, "arrival_time": row["arrival_time"].replace(hour=12, minute=0)} for row in rows)
    bucket = labelled_bucket(hourly_files(noon))
    key = "loop/rides/r1.npz"
    answer = collect(
        bucket, CollectRequest(run_id="r1", first="2021-01-01", last="2021-02-28", key=key, callback_id="")
    )
    request = TrainRequest(
        run_id="r1", rides_key=key, rides_sha256=answer.sha256, channel="stable", service="green", gate_days=14,
        callback_id="", allow=("rows", "rows-of-median"),
    )  # fmt: skip
    stored = bucket.read(key)
    assert stored
    return request, {key: stored.body}
