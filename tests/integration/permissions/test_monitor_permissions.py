"""The monitor works under its role, and needs every part of it."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.runtime.in_process import InProcessRuntime, load_handler
from lambda_function.core.calibration import calibration_key
from tests.kits.permissions import FIRST, SECOND, Account, Cut, cuts
from training.errors import UserError
from training.experiments.experiment import read_experiment
from training.experiments.start import ExperimentOptions, start_experiment
from training.monitoring.monitor.day_figures import day_key
from training.monitoring.monitor.status import load_status
from training.monitoring.new_york_days import first_hour
from training.registry.bucket import Bucket
from training.registry.channels import Mover

HANDLER = "training.functions.monitor.lambda_handler"
N_HOURS = 2
OTHERS = ("history/", "labelled/", "monitor/", "experiments/")
ITS_OWN = ("monitor/figures/", "monitor/days/", "monitor/status.json", "calibrations/", "experiments/")


@pytest.fixture(scope="module")
def _alone(account: Account) -> Iterator[None]:
    """Set aside what other tests have joined and moved: a run stores each day in between, and announces each move."""
    s3 = account.aws.client("s3")
    bucket = Bucket(s3, account.bucket)
    keys = [key for prefix in OTHERS for key in bucket.keys(prefix)]
    objects = {key: bucket.read(key) for key in keys}
    for key in keys:
        s3.delete_object(Bucket=account.bucket, Key=key)
    yield
    for key, found in objects.items():
        if found:
            s3.put_object(Bucket=account.bucket, Key=key, Body=found.body)


@pytest.fixture(scope="module")
def joined(account: Account, _alone: None) -> date:
    """A day that is long over, with two joined hours of labelled rides that the account's first model has served."""
    return account.store_labelled_day(N_HOURS)


def run_monitor(account: Account, joined: date, role_name: str, log: Path) -> Any:
    """Make all calls of a first run of the monitor, with an experiment, under one role; raise if access is denied."""
    s3 = account.aws.client("s3")
    for prefix in ITS_OWN:
        for one in s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix).get("Contents", ()):
            s3.delete_object(Bucket=account.bucket, Key=one["Key"])
    account.serve_calibrated()
    options = ExperimentOptions(name="trial", candidates=(SECOND.model_version,), champion=FIRST.model_version)
    start_experiment(Bucket(s3, account.bucket), options, Mover("tests", lambda: first_hour(joined).start))
    mine = account.clients(role_name, "logs")
    variables = {**account.function_variables("Monitor"), **account.variables(role_name)}
    with account.aws.enforcing(), load_handler(HANDLER, variables, log) as handler:
        answer = InProcessRuntime(handler, 900, 1769, "monitor")({})
        account.write_logs(mine["logs"], "MonitorLogs")
    return answer


def test_monitor_does_its_work_under_its_role_and_needs_every_part_of_it(
    account: Account, joined: date, tmp_path: Path
) -> None:
    account.take_asked(account.roles["MonitorRole"])
    answer = run_monitor(account, joined, account.roles["MonitorRole"], tmp_path / "function.log")

    assert (len(answer["hours"]), answer["stored"]) == (N_HOURS, True)
    assert account.parts_without_use("MonitorRole") == []
    bucket = Bucket(account.aws.client("s3"), account.bucket)
    experiment = read_experiment(bucket, "trial")
    assert experiment
    first, *_ = experiment.days
    assert (first.day, [one.n_rides > 0 for one in first.losses]) == (joined, [True, True])
    status = load_status(bucket)
    assert status
    assert (status.model_version, status.pending) == (FIRST.model_version, ())
    assert status.calibration.state == "active"
    assert status.calibration.as_of
    learned = calibration_key(FIRST.model_version, status.calibration.as_of)
    assert {learned, day_key(FIRST.model_version, joined)} <= set(bucket.keys(""))


@pytest.mark.parametrize("cut", cuts("MonitorRole")[:1], ids=str)
def test_monitor_shows_that_a_part_of_its_role_is_missing(
    account: Account, joined: date, tmp_path: Path, cut: Cut
) -> None:
    role = account.role_without("MonitorRole", cut)

    with pytest.raises((PermissionError, ClientError, UserError), match="AccessDenied"):
        run_monitor(account, joined, role, tmp_path / "function.log")
