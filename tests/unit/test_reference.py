"""`reference.json`: what it keeps, how large it is, what it refuses, and how it is built from rides and loaded."""

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.bundle import MANIFEST, bundle_key, load_bundle, sha256
from lambda_function.core.features import feature_matrix
from lambda_function.errors import BundleError
from tests.builders import JANUARY, small_bundle, small_interval, small_rides, vouched
from tests.builders_channels import new_bucket
from tests.builders_monitoring import days_of, reference_of
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.model.bundle import REFERENCE, ExportedBundle
from training.model.calibrate import Predict
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.detectors import data_scores
from training.monitoring.monitor.measured_days import measure_days
from training.monitoring.monitor.quantities import DATA_QUANTITIES, find_edges, quantity_values
from training.monitoring.monitor.reference import (
    MAX_DAYS,
    MAX_REFERENCE_BYTES,
    Reference,
    build_reference,
    decode_reference,
    encode_reference,
    load_reference,
)
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle

VERSION = small_bundle().model_version
COLUMNS = [field.name for field in fields(Days) if field.name != "counts"]


def assert_same_but_counts(one: Reference, other: Reference) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one.days, name), getattr(other.days, name), err_msg=name)
    for name in DATA_QUANTITIES:
        np.testing.assert_array_equal(one.edges[name], other.edges[name])


# The file -----------------------------------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 65_535) | st.integers(1, 3_000_000), min_size=1, max_size=12)


@given(n_rides=sizes, seed=st.integers(0, 1000), has_interval=st.booleans())
def test_a_reference_decodes_as_it_was_apart_from_the_shares_of_large_days(
    n_rides: list[int], seed: int, has_interval: bool
) -> None:
    reference = reference_of(days_of(n_rides, seed=seed, has_interval=has_interval))
    data = encode_reference(reference)
    decoded = decode_reference(data)
    assert_same_but_counts(decoded, reference)
    for name in DATA_QUANTITIES:
        before, after = reference.days.counts[name], decoded.days.counts[name]
        exact = reference.days.n <= 65_535
        np.testing.assert_array_equal(after[exact], before[exact])
        off_share = np.abs((after - before).cumsum(axis=1)) / reference.days.n[:, np.newaxis]
        assert off_share.max() <= 0.5001 / 65_535
    assert encode_reference(decoded) == data


def large_days(day_effect: float) -> NDArray[np.float64]:
    """Return the counts (366, 21) of days of a million rides, whose shares differ from day to day by a factor."""
    rng = np.random.default_rng(3)
    shares = 0.05 * np.exp(day_effect * rng.normal(size=(MAX_DAYS, 20)))
    shares = np.hstack([shares, np.full((MAX_DAYS, 1), 0.01)])
    return rng.multinomial(1_000_000, shares / shares.sum(axis=1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize("day_effect", [0.0, 0.02], ids=["days that are alike", "days that differ by 2%"])
def test_days_of_a_million_rides_keep_their_scores_to_a_percent(day_effect: float) -> None:
    counts, days = large_days(day_effect), days_of([1_000_000] * MAX_DAYS)
    for name in DATA_QUANTITIES:
        days.counts[name][:] = counts
    kept = decode_reference(encode_reference(reference_of(days))).days.counts["trip_distance_miles"]

    def scores(table: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = (table / table.sum(axis=1, keepdims=True)).cumsum(axis=1)[:, :-1]
        return data_scores(shares, np.array([0]), days.n)

    np.testing.assert_allclose(scores(kept), scores(counts), rtol=0.01, atol=0.01)  # the usual score is 1


@pytest.mark.parametrize("n_rides", [330, 65_535, 3_000_000])
def test_a_year_takes_200_kb_at_most(n_rides: int) -> None:
    assert len(encode_reference(reference_of(days_of([n_rides] * MAX_DAYS)))) <= 200_000


def changed(**changes: Any) -> bytes:
    document = json.loads(encode_reference(reference_of(days_of([2, 331]))))
    return json.dumps(document | changes).encode()


def with_edges(edges: list[float]) -> bytes:
    return changed(edges=dict.fromkeys(DATA_QUANTITIES, edges))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(changed(format=2), "has format 2, and this version reads 1", id="another format"),
        pytest.param(changed(n=[2]), "has 1 values of n for 2 days", id="a value too few"),
        pytest.param(changed(n=[2, 0]), "has a day without rides", id="a day without rides"),
        pytest.param(changed(n_within=[3, 0]), "more rides within their interval", id="too many within"),
        pytest.param(changed(days=["2020-01-02", "2020-01-01"]), "days that are not ascending", id="descending days"),
        pytest.param(changed(days=["2020-01-02", "2020-01-32"]), "days", id="no day"),
        pytest.param(
            changed(**{name: [] for name in ("days", "n", "n_within", "sum_error", "sum_squared_error")}),
            "values of var_error",
            id="no days",
        ),
        pytest.param(changed(edges={}), "has edges of nothing", id="no edges"),
        pytest.param(with_edges([1.0, 3.0, 2.0]), "trip_distance_miles that are not", id="edges not ascending"),
        pytest.param(with_edges([1.0] * 2), "trip_distance_miles that are not", id="equal edges"),
        pytest.param(with_edges([float(i) for i in range(20)]), "at most 19", id="too many edges"),
        pytest.param(with_edges([1.0]), "counts of trip_distance_miles in 80 bytes", id="counts of other edges"),
        pytest.param(changed(counts=dict.fromkeys(DATA_QUANTITIES, "//8AAA==")), "in 4 bytes", id="too few counts"),
        pytest.param(
            changed(counts=dict.fromkeys(DATA_QUANTITIES, "//8AAA==" * 20)), "base64", id="counts that are no base64"
        ),
        pytest.param(changed(var_error=[None, -1.0]), "var_error", id="a negative variance"),
        pytest.param(changed(sum_error=[float("nan")] * 2), "malformed", id="NaN"),
        pytest.param(changed(n=[2, 10**400]), "n", id="a huge number"),
        pytest.param(b"\xff", "malformed", id="no text"),
        pytest.param(b"{", "truncated", id="cut short"),
        pytest.param(b"[" * 100_000, "", id="nested deeply"),
        pytest.param(b" " * (MAX_REFERENCE_BYTES + 1), "has 1,000,001 bytes", id="too large"),
    ],
)
def test_a_damaged_reference_is_refused_with_its_name_and_the_remedy(data: bytes, problem: str) -> None:
    with pytest.raises(BundleError) as raised:
        decode_reference(data, VERSION)
    message = str(raised.value)
    assert problem in message
    assert message.startswith(f"bundle {VERSION}, reference.json: ")
    assert message.endswith("train the model again with this version of ridecast")


@given(data=st.data())
def test_any_changed_byte_gives_a_reference_or_one_error(data: st.DataObject) -> None:
    encoded = bytearray(changed())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        days = decode_reference(bytes(encoded)).days
    except BundleError:
        return
    assert all((counts >= 0).all() for counts in days.counts.values())


# Built from rides ---------------------------------------------------------------------------------------------------


def guess(rides: Rides) -> NDArray[np.float64]:
    """Return the minutes of a model that has learned nothing: four a mile and two more."""
    miles = np.nan_to_num(rides.columns.trip_distance_miles.clip(0, 60))
    minutes: NDArray[np.float64] = (4 * miles + 2.004).clip(1, 60)
    return minutes


def fit_nothing(_: Rides) -> Predict:
    return guess


def built(rides: Rides) -> Reference:
    data = build_reference(rides, fit_nothing, small_interval())
    assert data is not None
    return decode_reference(data)


def test_the_days_are_those_of_the_rides_with_the_final_intervals() -> None:
    rides = small_rides()
    reference = built(rides)
    matrix, minutes = feature_matrix(rides.columns), guess(rides)
    values = quantity_values(matrix, minutes)
    for name in DATA_QUANTITIES:
        np.testing.assert_array_equal(reference.edges[name], find_edges(values[name]))
    expected = measure_days(rides, minutes, reference.edges, small_interval())
    assert_same_but_counts(reference, Reference(reference.edges, expected))
    for name in DATA_QUANTITIES:
        np.testing.assert_array_equal(reference.days.counts[name], expected.counts[name])
    assert reference.n_rides == len(rides)


def test_the_order_of_a_days_rides_does_not_matter() -> None:
    rides = small_rides()
    rng = np.random.default_rng(1)
    day = rides.columns.pickup_minute // 1440
    shuffled = rides.take(np.lexsort((rng.random(len(rides)), day)))
    assert build_reference(shuffled, fit_nothing, None) == build_reference(rides, fit_nothing, None)


def test_a_reference_has_the_last_366_days() -> None:
    months = [JANUARY]
    while len(months) < 14:
        months.append(months[-1].next())
    days = built(concat_rides(synthetic_rides(month, 200, seed=1) for month in months)).days.day
    assert days[-1] == np.datetime64("2022-02-28")
    assert days[0] == np.datetime64("2021-02-28")


def test_rides_of_one_day_have_no_reference() -> None:
    rides = small_rides()
    one_day = rides.take(rides.columns.pickup_minute // 1440 == rides.columns.pickup_minute[0] // 1440)
    assert build_reference(one_day, fit_nothing, small_interval()) is None


def test_rides_without_any_distance_have_no_edges_of_it_and_are_found_to_be_missing() -> None:
    rides = small_rides()
    columns = replace(rides.columns, trip_distance_miles=np.zeros(len(rides)))
    reference = built(replace(rides, columns=columns))
    assert reference.edges["trip_distance_miles"].tolist() == []
    np.testing.assert_array_equal(reference.days.counts["trip_distance_miles"][:, -1], reference.days.n)


# Loaded from a bucket -----------------------------------------------------------------------------------------------


def stored(reference: bytes) -> Bucket:
    """Return a bucket with the small bundle and this reference in it."""
    files = vouched({**small_bundle().files, REFERENCE: reference})
    bucket = new_bucket()
    store_bundle(bucket, ExportedBundle(files, load_bundle(VERSION, sha256(files[MANIFEST]), files)))
    return bucket


def test_a_stored_reference_is_loaded() -> None:
    reference = reference_of(days_of([2, 331]))
    loaded = load_reference(stored(encode_reference(reference)), VERSION)
    assert loaded is not None
    assert_same_but_counts(loaded, reference)


def test_a_bundle_of_an_earlier_version_has_no_reference() -> None:
    bucket = new_bucket()
    store_bundle(bucket, small_bundle())
    assert load_reference(bucket, VERSION) is None


def test_a_reference_that_vanished_or_changed_is_named() -> None:
    bucket = stored(encode_reference(reference_of(days_of([2, 331]))))
    bucket.s3.objects[bundle_key(VERSION, REFERENCE)] = encode_reference(reference_of(days_of([2, 332])))
    with pytest.raises(BundleError, match=r"reference\.json: has other bytes than were exported"):
        load_reference(bucket, VERSION)
    del bucket.s3.objects[bundle_key(VERSION, REFERENCE)]
    with pytest.raises(BundleError, match=r"reference\.json: is missing"):
        load_reference(bucket, VERSION)
