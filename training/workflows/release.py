"""A candidate's way into a channel: judged against what the channel holds, stored, and only then moved onto."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from lambda_function.errors import BundleError
from training.data.load import rides_of
from training.data.months import Month, parse_months
from training.data.rides import Load, Rides
from training.errors import NoSuchVersionError
from training.evaluation.gate import GateReport, encode_gate_report, no_unseen_month, run_gate, unseen_month
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import FORCED_CHANNEL, Moved, not_gated, promote, store_bundle
from training.registry.signing import Signer
from training.registry.versions import put_artifact, read_stored, verdict_name
from training.tracking.mirror import Sources
from training.workflows.artifacts import write_papers
from training.workflows.progress import Display


@dataclass(frozen=True, slots=True)
class Target:
    """The channel of a bucket that a candidate wants into.

    Attributes:
        signer: Signs what is stored, if anybody does.
    """

    bucket: Bucket
    channel: str
    signer: Signer | None = None

    def holds(self) -> str | None:
        """Returns the version that the channel points at; None where it is empty."""
        return read_channel(self.bucket, self.channel).model_version

    def champion(self) -> ExportedBundle | None:
        """Returns what the channel holds; None where it is empty, or holds what this code cannot serve.

        Raises:
            BucketError: S3 did not answer as needed.
        """
        version = self.holds()
        try:
            return read_stored(self.bucket, version) if version else None
        except (BundleError, NoSuchVersionError):
            return None


def gate(
    target: Target,
    candidate: ExportedBundle,
    load: Load,
    *,
    test_months: Sequence[Month] = (),
    in_hand: Sequence[Month] = (),
    train_rides: Rides | None = None,
) -> GateReport:
    """Judges a candidate against what a channel holds, on months that neither has met.

    Where that cannot be loaded, as after the features have changed, the baseline is the rival in its place: the channel
    must not be stuck with what no new deployment can serve.

    Args:
        target: Where it wants to.
        candidate: What wants there.
        load: Brings rides of the candidate's service.
        test_months: What to judge on; the latest unseen month in hand where not given.
        in_hand: Months that `load` brings without a download.
        train_rides: What the candidate learnt from, where they are loaded already.

    Raises:
        UserError: Rides or the channel's model cannot be had.
    """
    champion, held = target.champion(), target.holds()
    found = unseen_month(candidate.model.manifest, champion.model.manifest if champion else None, in_hand)
    months = tuple(test_months) or ((found,) if found else ())
    if not months:
        report = no_unseen_month(candidate, champion, channel=target.channel)
        return msgspec.structs.replace(report, against=held)
    if train_rides is None:
        train_rides = load([Month.parse(month) for month in candidate.model.manifest.train_months])
    report = run_gate(candidate, champion, load(months), train_rides, channel=target.channel)
    return msgspec.structs.replace(report, against=held)


def release(target: Target, candidate: ExportedBundle, report: GateReport, *, force: bool = False) -> Moved:
    """Stores a candidate with its verdict, and moves the channel onto it.

    Args:
        target: Where to; FORCED_CHANNEL of the same bucket where the verdict is overruled.
        candidate: What the report is about.
        report: The gate's.
        force: Whatever the gate says.

    Raises:
        UserError: It did not pass, and is not forced: nothing of it is stored.
        ChannelMovedError: Somebody else moved the channel since it was judged.
        SigningError: KMS did not sign it.
        BucketError: S3 did not answer as needed.
    """
    if not (report.passed or force):
        failed = ", ".join(rule.rule for rule in report.rules if not rule.passed)
        problem = f"failed the gate ({failed})"
        raise not_gated(target.bucket, report.model_version, target.channel, report.against, problem)
    forced = not report.passed
    channel = FORCED_CHANNEL if forced else target.channel
    store_bundle(target.bucket, candidate, target.signer)
    put_artifact(target.bucket, candidate.model_version, verdict_name(report.channel), encode_gate_report(report))
    return promote(target.bucket, channel, candidate.model_version, force=forced)


# MERGED FROM infra/models/release_run.py
# A trained bundle judged, or judged and published, from the command line.
def judge_version(sources: Sources, target: Target, name: str, test: str | None, display: Display) -> GateReport:
    """Judges a version that a person names, and lays the verdict beside it wherever it is.

    Raises:
        UserError: There is no such version, or rides cannot be had.
        BundleError: Something about it, or about what the channel holds, is wrong.
    """
    version = sources.resolve(name)
    bundle, _, is_stored = sources.read(version)
    report = _judge(target, bundle, test, display)
    paper = verdict_name(target.channel)
    if is_stored:
        put_artifact(target.bucket, version, paper, encode_gate_report(report))
    if (sources.folder / version).is_dir():
        write_papers(sources.folder / version, {paper: encode_gate_report(report)})
    return report


def publish_bundle(
    target: Target, bundle: ExportedBundle, test: str | None, *, force: bool, display: Display
) -> tuple[GateReport, Moved | None]:
    """Judges a bundle, and publishes it if it passes or is forced.

    Raises:
        UserError: Rides cannot be had, or the channel cannot be moved.
        BundleError: Something about it, or about what the channel holds, is wrong.
    """
    report = _judge(target, bundle, test, display)
    if not (report.passed or force):
        return report, None
    display.step("publishing")
    moved = release(target, bundle, report, force=force)
    return report, moved


def _judge(target: Target, bundle: ExportedBundle, test: str | None, display: Display) -> GateReport:
    load, in_hand = rides_of(bundle.model.manifest)
    display.step(f"judging {bundle.model_version} against what {target.channel} holds")
    return gate(target, bundle, load, test_months=parse_months(test) if test else (), in_hand=in_hand)
