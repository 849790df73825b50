"""The first model of a local stack: the one that is named, the newest at hand, or one that is trained now."""

from pathlib import Path

from infra.local.demo.labelling import Display
from lambda_function.core.bundle import MANIFEST
from lambda_function.errors import BundleError
from training.data.months import parse_months
from training.errors import UserError
from training.model.bundle import ExportedBundle, read_bundle
from training.registry.bucket import Bucket
from training.registry.channel_history import DamagedChannelError, read_channel
from training.registry.channels import move_channel, store_bundle
from training.workflows.default_bucket import leave_model

TRAIN, VALIDATE = "2021-01", "2021-02"
"""The months of a first model, as in the demo."""


def release_first_model(
    bucket: Bucket,
    channel: str,
    activation_delay_s: float,
    build: Path,
    named: ExportedBundle | None,
    display: Display,
) -> None:
    """Let a channel serve a model. A channel that has one stays, unless one is named; so does a damaged one.

    Args:
        bucket: The stack's bucket.
        channel: The channel.
        activation_delay_s: Seconds until a channel that had a model serves the named one.
        build: Has the folder of bundles.
        named: A bundle to serve.
        display: Receives the progress.
    """
    try:
        if read_channel(bucket, channel).state and not named:
            return
    except DamagedChannelError as error:
        command = f"ridecast models restore --channel {channel} --local"
        display.warn(f"{error}. Rides wait until it is repaired; here the command is `{command}`.")
        return
    bundle = named or newest_bundle(build / "bundles") or _train(build, display)
    display.step(f"releasing model {bundle.model_version}")
    if problem := leave_model(bundle, build):
        display.warn(problem)
    store_bundle(bucket, bundle)
    move_channel(bucket, channel, bundle.model_version, bundle.manifest_sha256, activation_delay_s=activation_delay_s)


def newest_bundle(folder: Path) -> ExportedBundle | None:
    """Return the bundle of a folder that was written last; None if there is none that can be used."""
    manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: (path.stat().st_mtime, path), reverse=True)
    for path in manifests:
        try:
            return read_bundle(path.parent)
        except BundleError:  # of an earlier version of ridecast, or half of one
            continue
    return None


def named_bundle(folder: Path) -> ExportedBundle:
    """Read the bundle that a user names.

    Raises:
        UserError: The folder holds none.
        BundleError: It can't be used.
    """
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is no bundle: it has no {MANIFEST}", "name a folder below build/bundles")
    return read_bundle(folder.resolve())


def _train(build: Path, display: Display) -> ExportedBundle:
    from infra.local.demo.demo import DemoOptions, load_demo_rides, train_demo_model  # noqa: PLC0415 - scikit-learn takes seconds

    display.step("no model at hand: training one, which takes a minute or two")
    options = DemoOptions(
        service="green",
        train_months=parse_months(TRAIN),
        validate_months=parse_months(VALIDATE),
        n_events=0,
        folder=build,
    )
    train_rides, validate_rides, _ = load_demo_rides(options, display)
    bundle, _ = train_demo_model(options, train_rides, validate_rides, display)
    return bundle
