"""A forest that cannot be read, looks beyond its arrays or predicts otherwise is refused, though its digest fits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import FOREST, GOLDEN
from lambda_function.core.features import FEATURE_NAMES
from lambda_function.core.forest import FOREST_DTYPES
from lambda_function.errors import BundleError
from tests.builders import forest_arrays_of, random_matrix, small_bundle, vouched
from tests.builders_bundles import Files, files_of, load, with_arrays
from training.model.bundle import ExportedBundle

SPLITS = [name for name in FOREST_DTYPES if name.startswith("split_")]


def array(name: str) -> Any:
    return forest_arrays_of(small_bundle())[name].copy()


def replaced(name: str, value: object) -> Any:
    """An array of the small bundle whose first element is another."""
    values = array(name)
    values.reshape(-1)[0] = value
    return values


WRONG: dict[str, tuple[Callable[[], Files], str, str]] = {
    "array missing": (lambda: with_arrays(split_mask=None), FOREST, "array split_mask is missing"),
    "thresholds in single precision": (
        lambda: with_arrays(split_threshold=array("split_threshold").astype(np.float32)),
        FOREST,
        "split_threshold has dtype float32, want float64",
    ),
    "leaves in another byte order": (
        lambda: with_arrays(leaf_minutes=array("leaf_minutes").astype(">f8")),
        FOREST,
        "leaf_minutes has dtype >f8, want float64",
    ),
    "masks of 64 bits": (
        lambda: with_arrays(split_mask=array("split_mask").astype(np.uint64)),
        FOREST,
        "split_mask has dtype uint64, want uint32",
    ),
    "an array shorter than the others": (
        lambda: with_arrays(split_tree=array("split_tree")[:-1]),
        FOREST,
        r"split_tree has shape \(\d+,\), want \(\d+,\)",
    ),
    "leaves in one row": (
        lambda: with_arrays(leaf_minutes=array("leaf_minutes").reshape(-1)),
        FOREST,
        r"leaf_minutes has shape \(640,\), want \(20, 32\)",
    ),
    "trees of 64 leaves": (
        lambda: with_arrays(leaf_minutes=np.zeros((20, 64))),
        FOREST,
        r"leaf_minutes has shape \(20, 64\), want \(40, 32\)",
    ),
    "no tree": (
        lambda: with_arrays(
            leaf_minutes=np.zeros((0, 32)),
            **{name: array(name)[:0] for name in SPLITS},
        ),
        FOREST,
        "leaf_minutes holds no tree",
    ),
    "feature beyond those there are": (
        lambda: with_arrays(split_feature=replaced("split_feature", len(FEATURE_NAMES))),
        FOREST,
        f"split_feature goes beyond the {len(FEATURE_NAMES)} features",
    ),
    "split of a tree that is not there": (
        lambda: with_arrays(split_tree=replaced("split_tree", 20)),
        FOREST,
        "split_tree goes beyond the 20 trees",
    ),
    "mask that clears every leaf": (
        lambda: with_arrays(split_mask=replaced("split_mask", 0)),
        FOREST,
        "split_mask may leave a ride without a leaf",
    ),
    "threshold NaN": (
        lambda: with_arrays(split_threshold=replaced("split_threshold", np.nan)),
        FOREST,
        "split_threshold holds NaN",
    ),
    "leaf infinite": (
        lambda: with_arrays(leaf_minutes=replaced("leaf_minutes", np.inf)),
        FOREST,
        "leaf_minutes or base_minutes is not finite",
    ),
    "base NaN": (
        lambda: with_arrays(base_minutes=np.array(np.nan)),
        FOREST,
        "leaf_minutes or base_minutes is not finite",
    ),
    "pickled array inside": (
        lambda: with_arrays(leaf_minutes=array("leaf_minutes").astype(object)),
        FOREST,
        "is no archive of plain arrays: Object arrays cannot be loaded",
    ),
    "forest that is a pickle": (
        lambda: vouched({**files_of(), FOREST: b"\x80\x04]\x94."}),
        FOREST,
        "is no archive of plain arrays: .*pickle",
    ),
    "forest that is one array": (
        lambda: vouched(
            {
                **files_of(),
                FOREST: b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': ()}".ljust(127)
                + b"\n"
                + bytes(8),
            }
        ),
        FOREST,
        "is no archive of plain arrays",
    ),
    "forest that is empty": (lambda: vouched({**files_of(), FOREST: b""}), FOREST, "is no archive of plain arrays"),
    "forest that is text": (lambda: vouched({**files_of(), FOREST: b"hi"}), FOREST, "is no archive of plain arrays"),
    "leaf off": (
        lambda: with_arrays(base_minutes=array("base_minutes") + 0.5),
        GOLDEN,
        r"ride \d+ is predicted 0\.5 minutes off",
    ),
}


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
    """Its digest made right: what can still be read must still predict the golden rides."""
    data = bytearray(small_bundle().files[FOREST])
    data[position % len(data)] ^= flip
    try:
        model = load(vouched({**files_of(), FOREST: bytes(data)}))
    except BundleError:
        return
    matrix = random_matrix(50)
    np.testing.assert_allclose(model.predict(matrix), small_bundle().model.predict(matrix), atol=60)
