"""Reproduction: identical bytes, or differences with the causes first."""

from typing import Any

import msgspec
import pytest

from lambda_function.core.bundle import MANIFEST, Manifest, TrainingData, load_bundle, sha256
from tests.builders import small_bundle, vouched
from training.model.bundle import ExportedBundle
from training.workflows.reproduce import Difference, differences, reproduce

STORED = small_bundle()


def changed(**manifest: Any) -> Manifest:
    return msgspec.structs.replace(STORED.model.manifest, **manifest)


def test_same_bytes_are_identical() -> None:
    found = reproduce(STORED, lambda _: STORED)
    assert (found.is_identical, found.is_code, found.differences) == (True, False, ())


def test_another_seed_comes_before_the_differences_that_it_causes() -> None:
    found = reproduce(STORED, lambda _: small_bundle(2))
    facts = [one.fact for one in found.differences]
    assert facts[0] == "parameters.random_state"
    assert {"files.forest.npz.sha256", "model_version"} <= set(facts)
    assert found.again_version == small_bundle(2).model_version
    assert not found.is_code


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"software": {**STORED.model.manifest.software, "numpy": "1"}}, ("software.numpy", "1")),
        ({"software": {**STORED.model.manifest.software, "uv.lock": "ab"}}, ("software.uv.lock", "ab")),
        ({"data": (TrainingData("synthetic", "2021-01", "ab", 2000, 2000),)}, ("data.2021-01.sha256", "ab")),
        ({"parameters": {}}, ("parameters.learning_rate", None)),
        ({"metrics": {"validate": {"rmse_minutes": 4.0}}}, ("metrics.validate.rmse_minutes", 4.0)),
        ({"validate_months": ("2021-03",)}, ("validate_months", ("2021-03",))),
    ],
)
def test_each_fact_is_compared(change: dict[str, Any], difference: tuple[str, Any]) -> None:
    found = differences(STORED.model.manifest, changed(**change))
    assert difference in [(one.fact, one.again) for one in found]
    assert len(found) == len([one for one in found if one.fact.partition(".")[0] in change])


def test_new_data_differs_from_none() -> None:
    more = (*STORED.model.manifest.data, TrainingData("x", "2021-02", "ab", 2, 1))
    found = differences(STORED.model.manifest, changed(data=more))
    assert Difference("data.2021-02.n_kept", None, 1) in found


def test_another_result_of_the_same_inputs_comes_from_the_code() -> None:
    files = vouched(STORED.files, metrics={"validate": {"rmse_minutes": 4.0}})
    again = ExportedBundle(files, load_bundle(STORED.model_version, sha256(files[MANIFEST]), files))
    found = reproduce(STORED, lambda _: again)
    assert (found.is_identical, found.is_code) == (False, True)


def test_equal_manifest_in_other_bytes_is_not_identical() -> None:
    files = {**STORED.files, MANIFEST: STORED.files[MANIFEST] + b"\n"}
    again = ExportedBundle(files, load_bundle(STORED.model_version, sha256(files[MANIFEST]), files))
    (one,) = reproduce(STORED, lambda _: again).differences
    assert one.fact == "files.manifest.json.sha256"
