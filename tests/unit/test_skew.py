"""Skew: a prediction is compared with what the version that served predicts now."""

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import pytest

from lambda_function.core.bundle import FOREST, bundle_key
from lambda_function.core.processor import ProcessedBatch, RideBatch
from lambda_function.core.records import MAX_RECORD_BYTES
from lambda_function.errors import KmsError
from tests.builders import event_id, interval_bundle, kinesis_records, ride_bytes, small_bundle
from tests.builders_calibrations import AS_OF, LATER, calibration_bytes, calibration_of, key_of
from tests.builders_channels import bucket_of_three
from tests.fakes import FakeS3
from tests.fakes_kms import KEY, OTHER_KEY, FakeKms
from tests.outcomes import SERVICE_DOWN
from training.errors import BucketError
from training.model.bundle import ExportedBundle
from training.monitoring.join.skew import Load, Predicted, SkewCheck, digest64, sample_share, stored_models
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.signing import Signer, sign_stored

FIRST, SECOND = small_bundle(1), small_bundle(2)
ALL = [event_id(position) for position in range(5)]


def batch_of(n: int = 5) -> RideBatch:
    return RideBatch.of(kinesis_records(*(ride_bytes(row, trip_distance=1 + row) for row in range(n))))


def predicted(batch: ProcessedBatch, version: str) -> dict[str, Predicted]:
    datas = zip(batch.ids, batch.entries, strict=True)
    return {one_id: Predicted(version, digest64(data)) for one_id, (_, data) in datas}


def by(bundle: ExportedBundle, batch: RideBatch, ids: Iterable[str] | None = None) -> dict[str, Predicted]:
    """The predictions of a bundle for the rides with these ids, or for all."""
    all_of_them = predicted(batch.predict(bundle.model), bundle.model_version)
    return {one: all_of_them[one] for one in (all_of_them if ids is None else ids)}


def loads(*bundles: ExportedBundle) -> Load:
    """Load these bundles, from a bucket that has them."""
    bucket = Bucket(FakeS3(), "ridecast-test", n_threads=1)
    for bundle in bundles:
        store_bundle(bucket, bundle)
    return stored_models(bucket)


@pytest.mark.parametrize("bundle", [FIRST, interval_bundle()], ids=["without intervals", "with intervals"])
def test_equal_predictions_are_not_skewed(bundle: ExportedBundle) -> None:
    check = SkewCheck(loads(bundle))
    for _ in range(2):
        check.check(batch_of(), by(bundle, batch_of()))
    assert (check.skewed, check.n_recomputed, check.n_unrecomputed, check.problems) == (set(), 10, 0, {})


def test_changed_byte_is_skewed() -> None:
    batch = batch_of()
    data = batch.predict(FIRST.model).entries[3][1]
    changed = Predicted(FIRST.model_version, digest64(data.replace(b"duration", b"Duration", 1)))
    check = SkewCheck(loads(FIRST))
    check.check(batch, {**by(FIRST, batch), ALL[3]: changed})
    assert (check.skewed, check.n_recomputed) == ({ALL[3]}, 5)


def test_each_ride_is_compared_with_its_own_version() -> None:
    batch = batch_of()
    both = by(FIRST, batch, ALL[:2]) | by(SECOND, batch, ALL[2:])
    check = SkewCheck(loads(FIRST, SECOND))
    check.check(batch, both)
    assert (check.skewed, check.n_recomputed) == (set(), 5)
    of_the_other = Predicted(FIRST.model_version, both[ALL[4]].digest)
    check.check(batch, {**both, ALL[4]: of_the_other})
    assert check.skewed == {ALL[4]}


def test_other_bundle_under_the_same_version_skews_all_its_rides() -> None:
    impostor = replace(FIRST.model, forest=SECOND.model.forest)
    check = SkewCheck({FIRST.model_version: impostor}.__getitem__)
    check.check(batch_of(), by(FIRST, batch_of()))
    assert check.skewed == set(ALL)


def test_version_that_cannot_be_loaded_is_named_and_its_rides_are_counted() -> None:
    batch = batch_of()
    bucket = Bucket(FakeS3(), "ridecast-test", n_threads=1)
    for bundle in (FIRST, SECOND):
        store_bundle(bucket, bundle)
    damaged = bundle_key(SECOND.model_version, FOREST)
    bucket.s3.objects[damaged] = bucket.s3.objects[damaged][:-1]
    unknown = Predicted("green-2021-01-000000000000", 1)
    check = SkewCheck(stored_models(bucket))
    for _ in range(2):
        check.check(batch, by(FIRST, batch, ALL[:2]) | by(SECOND, batch, ALL[2:4]) | {ALL[4]: unknown})
    assert (check.n_recomputed, check.n_unrecomputed, check.skewed) == (4, 6, set())
    assert check.problems.keys() == {SECOND.model_version, unknown.model_version}
    assert "cut short" in check.problems[SECOND.model_version]
    assert bucket.s3.calls.count(("get", damaged)) == 1


def test_calibrated_predictions_are_compared_with_their_calibration_and_a_missing_one_is_named() -> None:
    bucket, batch = bucket_of_three(), batch_of()
    served: dict[str, Predicted] = {}
    for place, as_of in enumerate((AS_OF, LATER)):
        calibration = calibration_of(FIRST.model, as_of, interval_scale=1.0 + place)
        bucket.s3.objects[key_of(1, as_of)] = calibration_bytes(calibration)
        model = FIRST.model.calibrated(calibration)
        all_of_them = predicted(batch.predict(model), model.served_version)
        served |= {one: all_of_them[one] for one in ALL[2 * place : 2 * place + 2]}
    check = SkewCheck(stored_models(bucket))
    check.check(batch, served | by(FIRST, batch, ALL[4:]))
    assert (check.skewed, check.n_recomputed, check.problems) == (set(), 5, {})
    assert len([key for _, key in bucket.s3.calls if key == bundle_key(FIRST.model_version, FOREST)]) == 1
    del bucket.s3.objects[key_of(1, LATER)]
    check = SkewCheck(stored_models(bucket))
    check.check(batch, served)
    assert (check.skewed, check.n_recomputed, check.n_unrecomputed) == (set(), 2, 2)
    assert check.problems == {
        f"{FIRST.model_version}+{LATER}": f"{key_of(1, LATER)} is missing: put the right object back, or withdraw the"
        " calibration with `ridecast models calibrate --off`"
    }


def test_calibrated_prediction_under_the_name_of_another_version_is_skewed() -> None:
    bucket, batch = bucket_of_three(), batch_of()
    calibration = calibration_of(FIRST.model)
    bucket.s3.objects[key_of()] = calibration_bytes(calibration)
    served = predicted(batch.predict(FIRST.model.calibrated(calibration)), FIRST.model_version)
    check = SkewCheck(stored_models(bucket))
    check.check(batch, served)
    assert check.skewed == set(ALL)


def test_failure_of_s3_is_no_finding() -> None:
    bucket = bucket_of_three()
    bucket.s3.script += [SERVICE_DOWN]
    check = SkewCheck(stored_models(bucket))
    with pytest.raises(BucketError):
        check.check(batch_of(), by(FIRST, batch_of()))
    check.check(batch_of(), by(FIRST, batch_of()))
    assert (check.n_recomputed, check.problems) == (5, {})


def test_version_needs_the_signature_of_the_trusted_key() -> None:
    bucket, kms = bucket_of_three(), FakeKms()
    sign_stored(bucket, FIRST.model_version, Signer(kms, KEY))
    sign_stored(bucket, SECOND.model_version, Signer(kms, OTHER_KEY))
    batch = batch_of()
    third = by(small_bundle(3), batch, ALL[4:])
    check = SkewCheck(stored_models(bucket, Signer(kms, KEY)))
    check.check(batch, by(FIRST, batch, ALL[:2]) | by(SECOND, batch, ALL[2:4]) | third)
    assert (check.n_recomputed, check.n_unrecomputed) == (2, 3)
    assert "no signature of this manifest" in check.problems[SECOND.model_version]
    assert "is missing" in check.problems[small_bundle(3).model_version]


def test_failure_of_kms_is_no_finding() -> None:
    bucket, kms = bucket_of_three(), FakeKms()
    sign_stored(bucket, FIRST.model_version, Signer(kms, KEY))
    kms.script += [SERVICE_DOWN]
    with pytest.raises(KmsError):
        SkewCheck(stored_models(bucket, Signer(kms, KEY))).check(batch_of(), by(FIRST, batch_of()))


def test_ride_without_a_prediction_is_not_predicted_again() -> None:
    check = SkewCheck(loads(FIRST))
    check.check(batch_of(), by(FIRST, batch_of(), ALL[1:3]) | {"shardId-000000000009:1": Predicted("x", 1)})
    assert (check.n_recomputed, check.problems, check.skewed) == (2, {}, set())


def test_predicted_record_that_is_rejected_now_is_skewed() -> None:
    batch = RideBatch.of(kinesis_records(ride_bytes(), b"bad", b"bad"))
    check = SkewCheck(loads(FIRST))
    check.check(batch, by(FIRST, batch) | {ALL[1]: Predicted(FIRST.model_version, 1)})
    assert (check.skewed, check.n_recomputed) == ({ALL[1]}, 2)


def test_prediction_that_does_not_fit_a_record_now_is_skewed() -> None:
    batch = RideBatch.of(kinesis_records(ride_bytes(), ride_bytes("x" * (MAX_RECORD_BYTES - 1000))))
    longer = replace(FIRST.model, manifest=msgspec.structs.replace(FIRST.model.manifest, model_version="x" * 200))
    check = SkewCheck(lambda _: longer)
    check.check(batch, {**predicted(batch.predict(longer), "x"), ALL[1]: Predicted("x", 1)})
    assert (check.skewed, check.n_recomputed) == ({ALL[1]}, 2)


def test_sample_depends_on_the_ids_alone() -> None:
    n = 2000
    batch, share = batch_of(n), sample_share(n, 500)
    every = {one.event_id: Predicted(FIRST.model_version, 1) for one in batch.records}  # all are skewed
    whole, parts = SkewCheck(lambda _: FIRST.model, share), SkewCheck(lambda _: FIRST.model, share)
    whole.check(batch, every)
    for first in range(n - 100, -1, -100):
        parts.check(batch.take(range(first, first + 100)), every)
    assert whole.skewed == parts.skewed
    assert whole.n_recomputed == parts.n_recomputed == len(whole.skewed)
    assert 440 < whole.n_recomputed < 560  # three standard deviations are 58
