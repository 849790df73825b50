"""A bundle that loads: what it needs, its golden rides, its predictions and its intervals."""

import json

import msgspec
import numpy as np

from lambda_function.core.bundle import (
    FOREST,
    GOLDEN,
    MANIFEST,
    Manifest,
    ModelBundle,
    bundle_key,
    channel_key,
    decode_golden_rides,
)
from lambda_function.core.features import FEATURE_NAMES
from tests.builders import (
    forest_arrays_of,
    golden_of,
    interval_bundle,
    random_matrix,
    ride_event,
    small_bundle,
    small_interval,
    vouched,
)
from tests.builders_bundles import OTHER_VERSION, files_of, load, with_arrays, with_golden, with_interval
from training.model.bundle import ExportedBundle


def test_exported_bundle_loads(bundle: ExportedBundle) -> None:
    model = load(files_of())
    assert model.model_version == bundle.model_version
    assert model.manifest.feature_names == FEATURE_NAMES


def test_small_bundle_with_its_manifest_made_anew_loads() -> None:
    for files in (vouched(files_of()), with_arrays(), with_golden(lambda _: None)):
        assert load(files).manifest.feature_names == FEATURE_NAMES


def test_file_that_the_function_does_not_need_is_not_asked_for() -> None:
    files = vouched({**files_of(), "evaluation.json": b"{}"})
    del files["evaluation.json"]
    assert load(files).model_version == small_bundle().model_version


def test_keys_in_the_bucket() -> None:
    assert channel_key("stable") == "channels/stable.json"
    assert bundle_key(OTHER_VERSION, FOREST) == f"models/{OTHER_VERSION}/forest.npz"


def test_predictions_stay_in_the_range_of_the_rides_learnt_from(bundle: ExportedBundle) -> None:
    minutes = bundle.model.predict(random_matrix(2000))
    low, high = bundle.model.manifest.duration_range_minutes
    assert (low, high) == (1.0, 60.0)
    narrow = ModelBundle(
        msgspec.structs.replace(bundle.model.manifest, duration_range_minutes=(10.0, 12.0)), bundle.model.forest
    )
    np.testing.assert_array_equal(narrow.predict(random_matrix(2000)), minutes.clip(10, 12))


def test_golden_rides_have_thresholds_and_missing_values(bundle: ExportedBundle) -> None:
    rides = decode_golden_rides(bundle.files[GOLDEN])
    assert len(rides) == 100
    events = [ride["event"]["ride"] for ride in golden_of(bundle)]
    thresholds = forest_arrays_of(bundle)["split_threshold"][forest_arrays_of(bundle)["split_feature"] == 0]
    distances = np.array([event["trip_distance"] for event in events])
    assert np.isin(distances, thresholds).sum() >= 10
    assert np.isin(np.nextafter(distances, np.inf), thresholds).sum() >= 10
    assert (distances == 0).sum() >= 10
    assert sum(event["DOLocationID"] == 264 for event in events) >= 5


def test_golden_event_is_one_that_the_function_would_take(bundle: ExportedBundle) -> None:
    assert golden_of(bundle)[0]["event"].keys() == ride_event().keys()


def test_bundle_with_intervals_loads() -> None:
    model = load(with_interval())
    assert model.manifest.interval == small_interval()


def test_interval_bounds_are_those_of_the_tables() -> None:
    matrix = random_matrix(300)
    model = load(with_interval())
    minutes = model.predict(matrix)
    bounds = model.interval_bounds(matrix, minutes)
    assert bounds is not None
    low, high = bounds
    assert (low <= minutes.round(2)).all()
    assert (minutes.round(2) <= high).all()
    encoded = model.encoded_intervals(matrix, minutes)
    assert encoded is not None
    assert [json.loads(bytes(text)) for text in encoded] == np.column_stack(bounds).tolist()


def test_bundle_without_intervals_has_none() -> None:
    model, matrix = load(files_of()), random_matrix(3)
    assert model.interval_bounds(matrix, model.predict(matrix)) is None
    assert model.encoded_intervals(matrix, model.predict(matrix)) is None
    assert b"interval" not in files_of()[MANIFEST]
    assert b"interval" not in files_of()[GOLDEN]


def test_function_that_knows_of_no_intervals_reads_a_bundle_that_has_them() -> None:
    """It has the same structs without the field."""
    fields = {one.name: one.type for one in msgspec.structs.fields(Manifest) if one.name != "interval"}
    old_manifest = msgspec.defstruct("Manifest", list(fields.items()))
    old_golden_ride = msgspec.defstruct("GoldenRide", [("event", msgspec.Raw), ("duration_minutes", float)])
    manifest = msgspec.json.Decoder(old_manifest).decode(interval_bundle().files[MANIFEST])
    golden = msgspec.json.Decoder(list[old_golden_ride]).decode(interval_bundle().files[GOLDEN])  # type: ignore[valid-type]
    assert msgspec.to_builtins(manifest)["format"] == 1
    assert len(golden) == 100
