"""The small bundle's files: load them as the function does, and change parts of them."""

import json
from collections.abc import Callable
from typing import Any

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, ModelBundle, load_bundle, sha256
from tests.builders import forest_arrays_of, golden_of, interval_bundle, pack, small_bundle, small_interval, vouched

Files = dict[str, bytes]
OTHER_VERSION = "green-2021-02-000000000000"


def load(files: Files, version: str | None = None) -> ModelBundle:
    """Load files as those that the channel names."""
    version = small_bundle().model_version if version is None else version
    return load_bundle(version, sha256(files.get(MANIFEST, b"")), files)


def files_of() -> Files:
    """Return the small bundle's files; changing them affects no other test."""
    return dict(small_bundle().files)


def with_arrays(**changes: Any) -> Files:
    """Return the small bundle's files with other arrays in its forest; None removes an array."""
    arrays: dict[str, Any] = {**forest_arrays_of(small_bundle()), **changes}
    return vouched({**files_of(), FOREST: pack({n: array for n, array in arrays.items() if array is not None})})


def with_golden(change: Callable[[list[dict[str, Any]]], object]) -> Files:
    """Return the small bundle's files with golden rides that `change` has changed in place."""
    golden = golden_of(small_bundle())
    change(golden)
    return vouched({**files_of(), GOLDEN: json.dumps(golden).encode()})


def with_interval(**changes: Any) -> Files:
    """The files of a bundle with intervals, and changes to their part of the manifest."""
    return vouched(
        interval_bundle().files, model_version=small_bundle().model_version, interval=small_interval(**changes)
    )
