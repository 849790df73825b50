"""Releases: a candidate goes through the gate, or by force into `candidate`; otherwise nothing of it is stored."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import GOLDEN, bundle_key
from tests.builders import FEBRUARY, JANUARY, small_bundle, small_rides
from tests.builders_failed import Countdown, Mortal, ProcessEnd
from tests.builders_report import gate_report
from tests.fakes import BUCKET, FakeS3, damage_bundle
from tests.fakes_kms import KEY, FakeKms
from training.data.months import Month
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.evaluation.gate import GateReport, decode_gate_report
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.signing import Signer
from training.registry.versions import read_file, stored_versions
from training.workflows.release import gate, release
from training.workflows.ride_source import RideSource
from training.workflows.target import Target

MARCH = FEBRUARY.next()
CHAMPION = small_bundle(seed=2)


def load(months: Sequence[Month]) -> Rides:
    """Return made-up rides of the last month."""
    return small_rides() if months[-1] == JANUARY else synthetic_rides(months[-1], 1500, seed=7)


def target(channel: str = "stable", s3: FakeS3 | None = None) -> Target:
    return Target(Bucket(s3 or FakeS3(), BUCKET), channel)


def report(**changes: Any) -> GateReport:
    """Return a report of the gate on an empty channel."""
    return gate_report(**{"against": None, **changes})


def holder(s3: object, channel: str) -> str | None:
    return read_channel(Bucket(s3, BUCKET), channel).model_version


@pytest.mark.parametrize("force", [False, True])
def test_candidate_that_passed_is_stored_signed_with_its_verdict_and_in_the_channel(force: bool) -> None:
    wanted, bundle = Target(Bucket(FakeS3(), BUCKET), "stable", Signer(FakeKms(), KEY)), small_bundle()
    moved = release(wanted, bundle, report(passed=True), force=force)
    assert moved.has_moved
    assert bundle_key(bundle.model_version, SIGNATURE) in wanted.bucket.s3.objects
    assert holder(wanted.bucket.s3, "stable") == bundle.model_version
    assert stored_versions(wanted.bucket) == (bundle.model_version,)
    artifact = read_file(wanted.bucket, bundle.model_version, "gate-stable.json")
    assert artifact is not None
    assert decode_gate_report(artifact) == report(passed=True)


def test_failed_candidate_is_not_stored() -> None:
    wanted = target()
    with pytest.raises(UserError, match=r"failed the gate \(coverage\)"):
        release(wanted, small_bundle(), report(passed=False))
    assert wanted.bucket.s3.objects == {}


def test_force_releases_a_failed_candidate_into_candidate_and_never_into_stable() -> None:
    wanted, bundle = target(), small_bundle()
    moved = release(wanted, bundle, report(passed=False), force=True)
    assert moved.channel == "candidate"
    assert holder(wanted.bucket.s3, "candidate") == bundle.model_version
    assert holder(wanted.bucket.s3, "stable") is None


def test_bundle_is_visible_only_if_it_is_whole_and_then_comes_the_verdict_and_then_the_channel() -> None:
    bundle = small_bundle()
    for n_calls in range(30):
        s3 = FakeS3()
        with suppress(ProcessEnd):
            mortal = Mortal(s3, Countdown(n_calls))
            release(Target(Bucket(mortal, BUCKET), "stable"), bundle, report(passed=True))
        is_whole = all(bundle_key(bundle.model_version, name) in s3.objects for name in bundle.files)
        assert (bundle.model_version in stored_versions(Bucket(s3, BUCKET))) == is_whole
        has_verdict = bundle_key(bundle.model_version, "gate-stable.json") in s3.objects
        has_moved = "channels/stable.json" in s3.objects
        assert has_moved <= has_verdict <= is_whole
    assert has_moved


@pytest.mark.parametrize(("test_months", "last_local"), [([], MARCH), ([MARCH], MARCH.next())])
def test_empty_channel_is_gated_on_the_given_or_the_latest_unseen_month_against_the_baseline(
    test_months: list[Month], last_local: Month
) -> None:
    local_months = [JANUARY, FEBRUARY, last_local]
    verdict = gate(target(), small_bundle(), RideSource(load, tuple(local_months)), test_months=test_months)
    assert (verdict.months, verdict.against, verdict.channel) == (("2021-03",), None, "stable")


def test_without_an_unseen_month_nothing_passes() -> None:
    verdict = gate(target(), small_bundle(), RideSource(load, (JANUARY, FEBRUARY)))
    assert not verdict.passed
    assert [rule.rule for rule in verdict.rules] == ["unseen month"]


def test_channel_with_a_model_that_cannot_be_loaded_is_gated_against_the_baseline() -> None:
    target_with_champion = target()
    release(target_with_champion, CHAMPION, report(passed=True, bundle=CHAMPION))
    before = gate(target_with_champion, small_bundle(), RideSource(load, (MARCH,)))
    damage_bundle(target_with_champion.bucket.s3, CHAMPION, GOLDEN)
    verdict = gate(target_with_champion, small_bundle(), RideSource(load, (MARCH,)))
    assert before.against == verdict.against == CHAMPION.model_version
    assert verdict.champion is not None
    assert verdict.champion != before.champion
    assert verdict.champion == gate(target(), small_bundle(), RideSource(load, (MARCH,))).champion  # the baseline
    passing = report(passed=True, against=CHAMPION.model_version)
    assert release(target_with_champion, small_bundle(), passing).now.model_version == small_bundle().model_version
