"""A short soak by its command, with models of full size; `make soak` has other output formats and more rides."""

import json
import subprocess
import sys

from tests.soak.run import MAX_GROWTH_MB


def test_short_soak_loses_nothing_under_every_fault_and_its_memory_does_not_grow() -> None:
    command = [sys.executable, "-m", "tests.soak", "--rides", "20000", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report["rides"] == 20_000
    assert (report["lost"], report["predicted_and_rejected"], report["differing"], report["damaged"]) == (0, 0, 0, 0)
    # Failed batches were redriven, those that were published too, and a consumer converged.
    assert report["redriven"] > report["failed_though_done"] > 0
    assert (report["open"], report["rows"]) == (0, report["ids"])
    # The run had reshards, switches of the model, splits, calibrations of both arms, repeats and failed records.
    assert (report["shards"], report["model_versions"]) == (7, 9)  # six of these with a calibration
    assert min(report["faults"], report["repeated"], report["failed"], report["rejected"]) > 50
    assert report["withdrawn"] > 0
    # The archive was joined, and its audit found nothing, although batches of the archive failed, too.
    assert (report["audit_lost"], report["audit_conflicting"], report["audit_skewed"]) == (0, 0, 0)
    assert report["labelled"] > 0.45 * report["predicted"]  # every other ride has an outcome
    assert report["joined_hours"] >= 3
    assert len(report["rss_mb"]) == 10
    assert report["rss_growth_mb"] < MAX_GROWTH_MB
