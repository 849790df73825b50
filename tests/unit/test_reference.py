"""The file that monitoring compares days with: what it keeps, and what it refuses."""

import json
from typing import Any

import numpy as np
import pytest

from lambda_function.errors import BundleError
from tests.builders_monitoring import days_of, reference_of
from training.monitoring.quantities import DATA_QUANTITIES
from training.monitoring.reference import Reference, decode_reference, encode_reference


def assert_same(one: Reference, other: Reference) -> None:
    np.testing.assert_array_equal(one.days.day, other.days.day)
    for name in ("kind", "n", "sum_error", "sum_squared_error", "n_within", "n_with_interval", "var_error"):
        np.testing.assert_array_equal(getattr(one.days, name), getattr(other.days, name), err_msg=name)
    for name in DATA_QUANTITIES:
        np.testing.assert_array_equal(one.edges[name], other.edges[name])
        np.testing.assert_array_equal(one.days.counts[name], other.days.counts[name])


def test_a_reference_decodes_as_it_was() -> None:
    reference = reference_of(days_of([2, 331, 65_535]))
    assert_same(decode_reference(encode_reference(reference)), reference)


def test_a_model_without_intervals_has_a_reference_without_coverage() -> None:
    reference = reference_of(days_of([2, 331], has_interval=False))
    days = decode_reference(encode_reference(reference)).days
    assert np.isnan(days.n_within).all()
    assert days.n_with_interval.tolist() == [0, 0]


def changed(**changes: Any) -> bytes:
    document = json.loads(encode_reference(reference_of(days_of([2, 331]))))
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (changed(format=2), "has format 2, and this version reads 1"),
        (changed(n=[2]), "has 1 values of n for 2 days"),
        (changed(days=["2020-01-02", "2020-01-01"]), "days that are not ascending"),
        (changed(n=[2, 0]), "a day without rides"),
        (changed(n=[2, 1e999]), "n"),
        (changed(edges={}), "has edges of nothing"),
        (b"\xff", "malformed"),
        (b"{", "truncated"),
    ],
)
def test_a_damaged_reference_is_named_with_the_remedy(data: bytes, problem: str) -> None:
    with pytest.raises(BundleError) as raised:
        decode_reference(data, "green-2021-01-0123456789ab")
    message = str(raised.value)
    assert "reference.json" in message
    assert "train the model again" in message
    assert problem in message
