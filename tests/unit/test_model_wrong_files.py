"""A bundle's files are checked before it serves: each way in which they can be wrong has its own sentence."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, check_files, decode_manifest, load_bundle
from lambda_function.core.features import FEATURE_NAMES
from lambda_function.errors import BundleError
from tests.builders import vouched
from tests.builders_bundles import OTHER_VERSION, Files, files_of, load, with_golden
from training.model.bundle import ExportedBundle


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


WRONG: dict[str, tuple[Callable[[], Files], str, str]] = {
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
    "digest that is none": (
        lambda: manifest_as(lambda manifest: manifest["files"][FOREST].update(sha256="0")),
        MANIFEST,
        r"does not decode: .*`\$\.files\[\.\.\.\]\.sha256`",
    ),
    "another format": (lambda: manifest_with(format=2), MANIFEST, "has format 2, this function reads 1"),
    "another version": (
        lambda: manifest_with(model_version=OTHER_VERSION),
        MANIFEST,
        f"is of version {OTHER_VERSION}",
    ),
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
    "golden ride in other hands": (
        lambda: with_golden(lambda golden: golden[3]["event"]["ride"].update(PULocationID=266)),
        GOLDEN,
        r"does not decode: .*`\$\.ride\.PULocationID`",
    ),
    "golden ride at no time": (
        lambda: with_golden(lambda golden: golden[3]["event"]["ride"].update(pickup_datetime="noon")),
        GOLDEN,
        r"does not decode: .*`\$\.ride\.pickup_datetime`",
    ),
    "golden rides not JSON": (lambda: vouched({**files_of(), GOLDEN: b"[1"}), GOLDEN, "does not decode"),
    "no golden rides": (lambda: with_golden(list.clear), GOLDEN, "holds no rides"),
}


@pytest.mark.parametrize(("make", "file", "problem"), WRONG.values(), ids=WRONG)
def test_wrong_bundle_is_refused_with_file_and_problem(
    make: Callable[[], Files], file: str, problem: str, bundle: ExportedBundle
) -> None:
    with pytest.raises(BundleError, match=rf"bundle {bundle.model_version}, {file}: .*{problem}") as refused:
        load(make())
    assert refused.value.file == file
    assert refused.value.model_version == bundle.model_version


def test_manifest_that_the_channel_does_not_name_is_refused(bundle: ExportedBundle) -> None:
    with pytest.raises(BundleError, match="is not the one that the channel names"):
        load_bundle(bundle.model_version, "0" * 64, bundle.files)


def test_bundle_of_another_version_than_asked_for_is_refused(bundle: ExportedBundle) -> None:
    with pytest.raises(BundleError, match=f"is of version {bundle.model_version}") as refused:
        load(files_of(), OTHER_VERSION)
    assert refused.value.model_version == OTHER_VERSION


@pytest.mark.parametrize("version", ["green-2021-01", "green-2021-01-3f2a9c1d0b7e\n", "../x-2021-01-3f2a9c1d0b7e", ""])
def test_version_that_is_none_is_refused_by_path(version: str) -> None:
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
