"""A trained bundle judged, or judged and published, from the command line."""

from infra.models.papers import write_papers
from infra.models.training_run import Display
from training.data.loading import rides_of
from training.data.months import parse_months
from training.judging.gate import GateReport, encode_gate_report
from training.publish import Moved
from training.registry.bundle import ExportedBundle
from training.registry.versions import put_paper, verdict_name
from training.release import Target, gate, release
from training.tracking.catch_up import Sources


def judge_version(sources: Sources, target: Target, name: str, test: str | None, display: Display) -> GateReport:
    """Judges a version that a person names, and lays the verdict beside it wherever it is.

    Raises:
        TrainingError: There is no such version, or rides cannot be had.
        BundleError: Something about it, or about what the channel holds, is wrong.
    """
    version = sources.resolve(name)
    bundle, _, is_stored = sources.read(version)
    report = _judge(target, bundle, test, display)
    paper = verdict_name(target.channel)
    if is_stored:
        put_paper(target.s3, target.bucket, version, paper, encode_gate_report(report))
    if (sources.folder / version).is_dir():
        write_papers(sources.folder / version, {paper: encode_gate_report(report)})
    return report


def publish_bundle(
    target: Target, bundle: ExportedBundle, test: str | None, *, force: bool, display: Display
) -> tuple[GateReport, Moved | None]:
    """Judges a bundle, and publishes it if it passes or is forced.

    Raises:
        TrainingError: Rides cannot be had, or the channel cannot be moved.
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
