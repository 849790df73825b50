"""Bundles: a valid one loads and predicts; a wrong one is refused, and the error names the file and the problem."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import (
    FOREST,
    GOLDEN,
    MANIFEST,
    Manifest,
    ModelBundle,
    bundle_key,
    check_files,
    decode_golden_rides,
    decode_manifest,
    load_bundle,
)
from lambda_function.core.channel import channel_key
from lambda_function.core.features import FEATURE_NAMES
from lambda_function.core.forest import FOREST_DTYPES
from lambda_function.errors import BundleError
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
from tests.builders_bundles import OTHER_VERSION, Files, files_of, load, with_arrays, with_golden, with_interval
from training.model.bundle import ExportedBundle


def test_valid_bundle_loads() -> None:
    for files in (files_of(), vouched(files_of()), with_arrays(), with_golden(lambda _: None)):
        assert load(files).manifest.feature_names == FEATURE_NAMES


def test_file_that_the_function_does_not_need_is_not_required() -> None:
    files = vouched({**files_of(), "evaluation.json": b"{}"})
    del files["evaluation.json"]
    assert load(files).model_version == small_bundle().model_version


def test_keys_in_the_bucket() -> None:
    assert channel_key("stable") == "channels/stable.json"
    assert bundle_key(OTHER_VERSION, FOREST) == f"models/{OTHER_VERSION}/forest.npz"


def test_predictions_stay_in_the_range_of_the_training_rides(bundle: ExportedBundle) -> None:
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


def test_golden_event_has_the_fields_of_a_ride_event(bundle: ExportedBundle) -> None:
    assert golden_of(bundle)[0]["event"].keys() == ride_event().keys()


def test_interval_bounds_are_those_of_the_tables() -> None:
    matrix = random_matrix(300)
    model = load(with_interval())
    assert model.manifest.interval == small_interval()
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


def test_function_without_intervals_reads_a_bundle_with_intervals() -> None:
    """An older function has the same structs without the field."""
    fields = {one.name: one.type for one in msgspec.structs.fields(Manifest) if one.name != "interval"}
    old_manifest = msgspec.defstruct("Manifest", list(fields.items()))
    old_golden_ride = msgspec.defstruct("GoldenRide", [("event", msgspec.Raw), ("duration_minutes", float)])
    manifest = msgspec.json.Decoder(old_manifest).decode(interval_bundle().files[MANIFEST])
    golden = msgspec.json.Decoder(list[old_golden_ride]).decode(interval_bundle().files[GOLDEN])  # type: ignore[valid-type]
    assert msgspec.to_builtins(manifest)["format"] == 1
    assert len(golden) == 100


Case = tuple[Callable[[], Files], str, str]
"""A function that makes the wrong files, the file that is refused, and the problem."""


def without(name: str) -> Files:
    files = files_of()
    del files[name]
    return files


def flipped(name: str) -> Files:
    data = bytearray(files_of()[name])
    data[len(data) // 2] ^= 1
    return {**files_of(), name: bytes(data)}


def cut(name: str) -> Files:
    return {**files_of(), name: files_of()[name][:-100]}


def manifest_with(**changes: Any) -> Files:
    return vouched(files_of(), **changes)


def manifest_as(change: Callable[[dict[str, Any]], object]) -> Files:
    manifest = json.loads(files_of()[MANIFEST])
    change(manifest)
    return {**files_of(), MANIFEST: json.dumps(manifest).encode()}


def off_by_a_little(golden: list[dict[str, Any]]) -> None:
    golden[41]["duration_minutes"] += 1e-8


WRONG_FILES: dict[str, Case] = {
    "manifest missing": (lambda: without(MANIFEST), MANIFEST, "is missing"),
    "forest missing": (lambda: without(FOREST), FOREST, "is missing"),
    "golden rides missing": (lambda: without(GOLDEN), GOLDEN, "is missing"),
    "forest that the manifest does not name": (
        lambda: manifest_as(lambda manifest: manifest["files"].pop(FOREST)),
        FOREST,
        "is missing",
    ),
    "byte of the forest flipped": (lambda: flipped(FOREST), FOREST, "its SHA-256 differs"),
    "byte of a golden ride flipped": (lambda: flipped(GOLDEN), GOLDEN, "its SHA-256 differs"),
    "forest cut short": (lambda: cut(FOREST), FOREST, r"has \d+ bytes of \d+: cut short"),
    "golden rides cut short": (lambda: cut(GOLDEN), GOLDEN, r"has \d+ bytes of \d+: cut short"),
    "golden rides empty": (lambda: {**files_of(), GOLDEN: b""}, GOLDEN, r"has 0 bytes of \d+"),
    "manifest not JSON": (lambda: {**files_of(), MANIFEST: b"hello"}, MANIFEST, "does not decode: JSON is malformed"),
    "manifest cut short": (lambda: cut(MANIFEST), MANIFEST, "does not decode: Input data was truncated"),
    "manifest not UTF-8": (
        lambda: {**files_of(), MANIFEST: files_of()[MANIFEST].replace(b'"green"', b'"gr\xffen"')},
        MANIFEST,
        "does not decode: .*utf-8",
    ),
    "manifest without a field": (
        lambda: manifest_as(lambda manifest: manifest.pop("feature_names")),
        MANIFEST,
        "missing required field `feature_names`",
    ),
    "invalid digest": (
        lambda: manifest_as(lambda manifest: manifest["files"][FOREST].update(sha256="0")),
        MANIFEST,
        r"does not decode: .*`\$\.files\[\.\.\.\]\.sha256`",
    ),
    "another format": (lambda: manifest_with(format=2), MANIFEST, "has format 2, this function reads 1"),
    "another version": (lambda: manifest_with(model_version=OTHER_VERSION), MANIFEST, f"is of version {OTHER_VERSION}"),
    "features in another order": (
        lambda: manifest_with(feature_names=FEATURE_NAMES[::-1]),
        MANIFEST,
        "has features straight_line_miles, .*; this function computes trip_distance_miles, ",
    ),
    "one feature less": (
        lambda: manifest_with(feature_names=FEATURE_NAMES[:-1]),
        MANIFEST,
        f"has features .*, {FEATURE_NAMES[-2]}; this function computes .*, {FEATURE_NAMES[-1]}",
    ),
    "golden ride off": (lambda: with_golden(off_by_a_little), GOLDEN, "ride 41 is predicted 1e-08 minutes off"),
    "golden ride with an unknown zone": (
        lambda: with_golden(lambda golden: golden[3]["event"]["ride"].update(PULocationID=266)),
        GOLDEN,
        r"does not decode: .*`\$\.ride\.PULocationID`",
    ),
    "golden ride without a valid time": (
        lambda: with_golden(lambda golden: golden[3]["event"]["ride"].update(pickup_datetime="noon")),
        GOLDEN,
        r"does not decode: .*`\$\.ride\.pickup_datetime`",
    ),
    "golden rides not JSON": (lambda: vouched({**files_of(), GOLDEN: b"[1"}), GOLDEN, "does not decode"),
    "too many golden rides": (
        lambda: with_golden(lambda golden: golden.extend(golden * 10)),
        GOLDEN,
        "holds 1,100 rides, where 1,000 are taken",
    ),
    "no golden rides": (lambda: with_golden(list.clear), GOLDEN, "holds no rides"),
}


def test_manifest_that_the_channel_does_not_name_is_refused(bundle: ExportedBundle) -> None:
    with pytest.raises(BundleError, match="is not the one that the channel names"):
        load_bundle(bundle.model_version, "0" * 64, bundle.files)


def test_bundle_of_another_version_than_asked_for_is_refused(bundle: ExportedBundle) -> None:
    with pytest.raises(BundleError, match=f"is of version {bundle.model_version}") as refused:
        load(files_of(), OTHER_VERSION)
    assert refused.value.model_version == OTHER_VERSION


@pytest.mark.parametrize("version", ["green-2021-01", "green-2021-01-3f2a9c1d0b7e\n", "../x-2021-01-3f2a9c1d0b7e", ""])
def test_invalid_version_is_refused_by_path(version: str) -> None:
    manifest = json.loads(files_of()[MANIFEST]) | {"model_version": version}
    with pytest.raises(msgspec.ValidationError, match=r"`\$\.model_version`"):
        decode_manifest(json.dumps(manifest).encode())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda files: files.pop("evaluation.json"), "evaluation.json: is missing"),
        (lambda files: files.update({"evaluation.json": b"[]"}), "evaluation.json: has other bytes than were exported"),
        (lambda files: files.update({FOREST: b""}), r"forest.npz: has 0 bytes of \d+"),
    ],
)
def test_every_file_that_the_manifest_names_can_be_checked(
    change: Callable[[dict[str, bytes]], object], problem: str
) -> None:
    files = vouched({**files_of(), "evaluation.json": b"{}"})
    manifest = decode_manifest(files[MANIFEST])
    check_files(manifest, files)
    change(files)
    with pytest.raises(BundleError, match=problem):
        check_files(manifest, files)


def with_golden_interval(interval: object) -> Files:
    """Return files with another interval for one of the golden rides."""
    golden = golden_of(interval_bundle())
    golden[17]["interval"] = interval
    return vouched({**with_interval(), GOLDEN: json.dumps(golden).encode()})


def interval_as(name: str, value: object) -> Files:
    """The same with any other value in the manifest's intervals."""
    files = with_interval()
    manifest = json.loads(files[MANIFEST])
    manifest["interval"][name] = value
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def halves(**changes: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    return {**small_interval().half_minutes, **changes}


WRONG_INTERVALS: dict[str, Case] = {
    "interval with steps in disorder": (
        lambda: with_interval(edges_minutes=(20.0, 8.0)),
        MANIFEST,
        "edges_minutes are not ascending",
    ),
    "interval of NaN": (lambda: interval_as("level", float("nan")), MANIFEST, "does not decode: JSON is malformed"),
    "interval of nothing": (
        lambda: interval_as("half_minutes", {"busy_hours": [None, 1, 2]}),
        MANIFEST,
        r"does not decode: Expected `float`, got `null` - at `\$\.interval\.half_minutes",
    ),
    "interval over a range without end": (
        lambda: vouched(with_interval(), duration_range_minutes=(1.0, 1e12)),
        MANIFEST,
        r"there is no table for predictions from 1 to 1e\+12 minutes",
    ),
    "interval of another width than exported": (
        lambda: with_interval(half_minutes=halves(no_distance=(4.25, 5.5, 8.26))),
        GOLDEN,
        r"ride 9\d has the interval \(\d+\.\d+, \d+\.\d+\), and here it is \(",
    ),
    "golden ride's interval off": (
        lambda: with_golden_interval([1.0, 60.0]),
        GOLDEN,
        r"ride 17 has the interval \(1\.0, 60\.0\), and here it is \(",
    ),
    "golden ride without its interval": (
        lambda: with_golden_interval(None),
        GOLDEN,
        r"ride 17 has the interval None, and here it is \(",
    ),
    "golden rides with intervals of none": (
        lambda: vouched(with_interval(), interval=None),
        GOLDEN,
        r"ride 0 has the interval \(.*\), and here it is None",
    ),
}


N_FEATURES = len(FEATURE_NAMES)
ONE_ARRAY = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': ()}".ljust(127) + b"\n" + bytes(8)


def array(name: str) -> Any:
    return forest_arrays_of(small_bundle())[name].copy()


def first(name: str, value: object) -> Files:
    """Return the small bundle's files with another first element of an array."""
    values = array(name)
    values.reshape(-1)[0] = value
    return with_arrays(**{name: values})


def typed(name: str, dtype: str) -> Files:
    return with_arrays(**{name: array(name).astype(dtype)})


def without_trees() -> Files:
    splits = {name: array(name)[:0] for name in FOREST_DTYPES if name.startswith("split_")}
    return with_arrays(leaf_minutes=np.zeros((0, 32)), **splits)


def forest_as(data: bytes) -> Files:
    return vouched({**files_of(), FOREST: data})


NOT_ARRAYS = "is no archive of plain arrays"
_FORESTS: dict[str, tuple[Callable[[], Files], str]] = {
    "array missing": (lambda: with_arrays(split_mask=None), "array split_mask is missing"),
    "another byte order": (lambda: typed("leaf_minutes", ">f8"), "leaf_minutes has dtype >f8, want float64"),
    "leaves in one row": (
        lambda: with_arrays(leaf_minutes=array("leaf_minutes").reshape(-1)),
        r"leaf_minutes has shape \(640,\), want \(20, 32\)",
    ),
    "trees of 64 leaves": (lambda: with_arrays(leaf_minutes=np.zeros((20, 64))), r"shape \(20, 64\), want \(40, 32\)"),
    "no tree": (without_trees, "leaf_minutes holds no tree"),
    "unknown feature": (lambda: first("split_feature", N_FEATURES), f"goes beyond the {N_FEATURES} features"),
    "unknown tree": (lambda: first("split_tree", 20), "split_tree goes beyond the 20 trees"),
    "mask without leaves": (lambda: first("split_mask", 0), "split_mask may leave a ride without a leaf"),
    "threshold NaN": (lambda: first("split_threshold", np.nan), "split_threshold holds NaN"),
    "leaf infinite": (lambda: first("leaf_minutes", np.inf), "leaf_minutes or base_minutes is not finite"),
    "base NaN": (lambda: first("base_minutes", np.nan), "leaf_minutes or base_minutes is not finite"),
    "pickled array": (lambda: typed("leaf_minutes", "O"), f"{NOT_ARRAYS}: Object arrays cannot be loaded"),
    "pickle": (lambda: forest_as(b"\x80\x04]\x94."), f"{NOT_ARRAYS}: .*pickle"),
    "one array": (lambda: forest_as(ONE_ARRAY), NOT_ARRAYS),
    "empty": (lambda: forest_as(b""), NOT_ARRAYS),
    "text": (lambda: forest_as(b"hi"), NOT_ARRAYS),
}
WRONG_FORESTS: dict[str, Case] = {
    f"forest: {id_}": (make, FOREST, problem) for id_, (make, problem) in _FORESTS.items()
}
WRONG_FORESTS["base off"] = (
    lambda: with_arrays(base_minutes=array("base_minutes") + 0.5),
    GOLDEN,
    r"ride \d+ is predicted 0\.5 minutes off",
)


WRONG = {**WRONG_FILES, **WRONG_INTERVALS, **WRONG_FORESTS}


@pytest.mark.parametrize(("make", "file", "problem"), WRONG.values(), ids=WRONG)
def test_wrong_bundle_is_refused_with_file_and_problem(
    make: Callable[[], Files], file: str, problem: str, bundle: ExportedBundle
) -> None:
    with pytest.raises(BundleError, match=rf"bundle {bundle.model_version}, {file}: .*{problem}") as refused:
        load(make())
    assert refused.value.file == file
    assert refused.value.model_version == bundle.model_version


@given(st.integers(0, 2**30), st.integers(1, 255))
def test_forest_with_any_byte_changed_is_refused_or_predicts(position: int, flip: int) -> None:
    """The digest is right: a forest that decodes must still predict the golden rides."""
    data = bytearray(small_bundle().files[FOREST])
    data[position % len(data)] ^= flip
    try:
        model = load(vouched({**files_of(), FOREST: bytes(data)}))
    except BundleError:
        return
    matrix = random_matrix(50)
    np.testing.assert_allclose(model.predict(matrix), small_bundle().model.predict(matrix), atol=60)
