"""The gate: decide whether a candidate may go into a channel, by rules on rides that no model has met."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from lambda_function.core.bundle import Manifest, ModelBundle
from training.data.months import Month, met_months
from training.data.rides import Rides
from training.evaluation.bootstrap import (
    Comparison,
    compare_coverage,
    compare_days,
    compare_errors,
    compare_scores,
)
from training.evaluation.gate_rules import (
    MIN_CHECKED_RIDES,
    IntervalsCompared,
    RuleResult,
    rule_better,
    rule_coverage,
    rule_parity,
    rule_predict_time,
    rule_service,
    rule_size,
    rule_slices,
    rule_unseen,
    used_months,
)
from training.evaluation.metrics import PairedDays, Predictor, plain_predictor, predictor, side_by_side
from training.evaluation.predict_time import predict_time_ratio
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle
from training.model.results import Measured


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, for one channel as it was then."""

    passed: bool  # whether every rule passed
    model_version: str  # the candidate's
    manifest_sha256: str  # the digest of the candidate's manifest
    against: str | None  # the version in the channel; None if it was empty: the comparison is with the baseline
    channel: str
    months: tuple[str, ...]  # the months compared on, as in `2023-03`
    candidate: Measured | None = None  # the candidate's errors there; None without a month
    # Those of the channel's model, or of the baseline.
    champion: Measured | None = msgspec.field(default=None, name="rival")
    comparison: Comparison | None = None  # the candidate less the champion, by bootstrap over days
    rules: tuple[RuleResult, ...]  # the results, in the order of the rules


decode_gate_report = msgspec.json.Decoder(GateReport).decode


def encode_gate_report(report: GateReport) -> bytes:
    """Return a report's bytes, as they are stored."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def unseen_month(candidate: Manifest, champion: Manifest | None, months: Sequence[Month]) -> Month | None:
    """Return the latest month that neither model has trained, calibrated or validated on; None if there is none."""
    met = met_months(months, used_months(candidate) | (used_months(champion) if champion else frozenset()))
    return max(set(months).difference(met), default=None)


def run_gate(
    candidate: ExportedBundle,
    champion: ExportedBundle | None,
    rides: Rides,
    train_rides: Rides,
    *,
    channel: str,
    time_ratio: Callable[[ModelBundle, Rides], float] = predict_time_ratio,
    predictor_of: Callable[[ModelBundle], Predictor] = predictor,
) -> GateReport:
    """Apply all the rules to a candidate, on at least one ride. An empty channel has the baseline as its champion.

    The candidate's training rides are those that the baseline is fitted on, and they make zone pairs known. The last
    two arguments are for those who gate many pairs: how to time a model, and how to predict with it.
    """
    other = predictor_of(champion.model) if champion else plain_predictor(fit_baseline(train_rides).predict)
    measured = side_by_side(predictor_of(candidate.model), other, rides, train_rides)
    result, days = measured.result, measured.days
    comparison = compare_days(*(sums[:, 0] for sums in days.squares))
    checked = np.array([one.model.n_rides >= MIN_CHECKED_RIDES for one in result.slices], np.bool_)
    slices = [one for one, is_checked in zip(result.slices, checked, strict=True) if is_checked]
    slice_days = measured.slice_days.take(checked)
    manifest, champion_manifest = candidate.model.manifest, champion.model.manifest if champion else None
    against = champion.model_version if champion else None
    compared = [_compare_intervals(each, manifest, champion_manifest) for each in (days, slice_days)]
    rules = (
        rule_unseen(rides.months, manifest, champion_manifest),
        rule_service(manifest, champion_manifest),
        rule_better(result, comparison, candidate.model_version, against),
        rule_slices(slices, compare_errors(slice_days.squares)),
        rule_coverage(result, slices, manifest, champion_manifest, *compared),
        rule_parity(candidate),
        rule_size(candidate),
        rule_predict_time(time_ratio(candidate.model, rides)),
    )
    return msgspec.structs.replace(
        _report(candidate, champion, channel, rules),
        months=result.months,
        candidate=result.model,
        champion=result.baseline,
        comparison=comparison,
    )


def _compare_intervals(days: PairedDays, candidate: Manifest, champion: Manifest | None) -> IntervalsCompared | None:
    """Compare prediction intervals; return None unless both models have some, of the same level."""
    if days.covered is None or days.scores is None or candidate.interval is None:
        return None
    level = candidate.interval.level
    if champion is None or champion.interval is None or champion.interval.level != level:
        return None
    return IntervalsCompared(compare_coverage(days.covered, level), compare_scores(days.scores))


def no_unseen_month(candidate: ExportedBundle, champion: ExportedBundle | None, *, channel: str) -> GateReport:
    """Return the failing report for a case in which `unseen_month` returns None."""
    rule = rule_unseen((), candidate.model.manifest, champion.model.manifest if champion else None)
    return _report(candidate, champion, channel, (rule,))


def _report(
    candidate: ExportedBundle, champion: ExportedBundle | None, channel: str, rules: tuple[RuleResult, ...]
) -> GateReport:
    return GateReport(
        passed=all(rule.passed for rule in rules),
        model_version=candidate.model_version,
        manifest_sha256=candidate.manifest_sha256,
        against=champion.model_version if champion else None,
        channel=channel,
        months=(),
        rules=rules,
    )


def report_lines(report: GateReport) -> list[str]:
    """Return a report for people: the verdict, then a rule a line."""
    verdict = "passes" if report.passed else "fails"
    against = report.against or "the baseline"
    months = ", ".join(report.months) or "no month"
    return [
        f"{report.model_version} {verdict} the gate of {report.channel}, against {against} on {months}",
        *(f"{_word(rule)}  {rule.rule}: {rule.seen} (wanted: {rule.wanted})" for rule in report.rules),
    ]


def _word(rule: RuleResult) -> str:
    if not rule.passed:
        return "FAIL"
    return "warn" if rule.is_warning else "pass"
