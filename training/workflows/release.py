"""Release a candidate into a channel: gate it against the channel's champion, store it, then move the channel."""

from collections.abc import Sequence

import msgspec

from training.data.months import Month, parse_days
from training.data.rides import Rides
from training.evaluation.gate import GateReport, encode_gate_report, no_unseen_month, unseen_month
from training.model.bundle import ExportedBundle
from training.registry.channels import FORCED_CHANNEL, Moved, not_gated, promote, store_bundle
from training.registry.sources import Sources, write_artifacts
from training.registry.versions import put_artifact, verdict_name
from training.workflows.progress import Progress
from training.workflows.ride_source import RideSource, source_of
from training.workflows.target import Target


def gate(
    target: Target,
    candidate: ExportedBundle,
    source: RideSource,
    *,
    test_months: Sequence[Month] = (),
    train_rides: Rides | None = None,
) -> GateReport:
    """Compare a candidate with a channel's champion, on months that neither has used.

    The test months are by default the latest unused one of the source's local months.
    `train_rides` are the candidate's training rides, if they are loaded already.

    Raises:
        UserError: Rides or the champion are not available.
    """
    champion = target.champion()
    champion_manifest = champion.model.manifest if champion else None
    found = unseen_month(candidate.model.manifest, champion_manifest, source.local_months)
    months = tuple(test_months) or ((found,) if found else ())
    if months:
        if train_rides is None:
            train_rides = source.load(parse_days(",".join(candidate.model.manifest.train_months)))
        return target.judge(candidate, source.load(months), train_rides)
    report = no_unseen_month(candidate, champion, channel=target.channel)
    return msgspec.structs.replace(report, against=target.holds())


def release(target: Target, candidate: ExportedBundle, report: GateReport, *, force: bool = False) -> Moved:
    """Store a candidate with its verdict, and move the channel to it.

    With `force`, a candidate that failed the gate goes into FORCED_CHANNEL of the same bucket.

    Raises:
        UserError: The gate failed and `force` is not set; then nothing is stored. Or KMS did not sign.
        BucketError: S3 failed, or somebody else moved the channel since the gate ran.
    """
    if not (report.passed or force):
        failed = ", ".join(rule.rule for rule in report.rules if not rule.passed)
        problem = f"failed the gate ({failed})"
        raise not_gated(target.bucket, report.model_version, target.channel, report.against, problem)
    forced = not report.passed
    channel = FORCED_CHANNEL if forced else target.channel
    store_bundle(target.bucket, candidate, target.signer)
    put_artifact(target.bucket, candidate.model_version, verdict_name(report.channel), encode_gate_report(report))
    delay_s = target.activation_delay_s
    return promote(target.bucket, channel, candidate.model_version, force=forced, activation_delay_s=delay_s)


def gate_version(sources: Sources, target: Target, name: str, test: str | None, progress: Progress) -> GateReport:
    """Gate the version that a name means, and store the verdict beside it in the bucket and in the folder.

    Raises:
        UserError: There is no such version, or rides are not available.
        BundleError: A file of the candidate is missing or wrong.
    """
    version = sources.resolve(name)
    bundle, _, is_stored = sources.read(version)
    report = _gate_bundle(target, bundle, test, progress)
    artifact, data = verdict_name(target.channel), encode_gate_report(report)
    if is_stored:
        put_artifact(target.bucket, version, artifact, data)
    if (sources.folder / version).is_dir():
        write_artifacts(sources.folder / version, {artifact: data})
    return report


def release_bundle(
    target: Target, bundle: ExportedBundle, test: str | None, *, force: bool, progress: Progress
) -> tuple[GateReport, Moved | None]:
    """Gate a bundle, and release it if it passes or is forced; else the move is None.

    Raises:
        UserError: Rides are not available, or the channel cannot be moved.
        BundleError: A file of the bundle is missing or wrong.
    """
    report = _gate_bundle(target, bundle, test, progress)
    if not (report.passed or force):
        return report, None
    progress.step("releasing")
    return report, release(target, bundle, report, force=force)


def _gate_bundle(target: Target, bundle: ExportedBundle, test: str | None, progress: Progress) -> GateReport:
    source = source_of(bundle.model.manifest, target.labelled or target.bucket)
    test_months = source.parse(test) if test else ()
    source.check_gate_months(test_months)
    progress.step(f"gating {bundle.model_version} against the model in {target.channel}")
    return gate(target, bundle, source, test_months=test_months)
