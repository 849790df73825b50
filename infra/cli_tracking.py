"""`ridecast models track` and `check`: what MLflow has missed, and whether it tells the same story as the bucket."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli_bucket import LOCAL_BUCKET, EndpointUrl, ModelBucket, Profile, Region, open_bucket
from infra.cli_options import BUILD, Json

if TYPE_CHECKING:
    from training.tracking.catch_up import Tracked
    from training.tracking.store import TrackingStore


def models_track(
    version: Annotated[
        str | None, typer.Argument(help="A version, the beginning of one, or a channel that points at it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of the bucket and of the folder.")] = False,
    bundles: Annotated[Path, typer.Option(help="Folder that training has written bundles to.")] = BUILD / "bundles",
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Tell MLflow what it has missed: runs, registered versions, and aliases after the channels. Safe to repeat.

    A broken bundle does not keep MLflow from the others, and is told of at the end.
    """
    if (version is None) != every:
        raise typer.BadParameter("name one version, or give --all", param_hint="'VERSION'")

    from infra.console import counting, error_console
    from lambda_function.errors import BundleError
    from training.tracking.catch_up import Sources, catch_up
    from training.tracking.mirror import follow_channels
    from training.tracking.mlflow_store import open_store

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    sources = Sources(s3, name, bundles)
    versions = sources.all_versions() if version is None else (sources.resolve(version),)
    store = open_store()
    tracked, broken = [], []
    with counting(error_console(), "tracking", len(versions)) as count:
        for number, one in enumerate(versions, 1):
            try:
                tracked.append(catch_up(store, sources, one))
            except BundleError as error:
                broken.append(error)
            count(number)
    _show_tracked(store, tracked, follow_channels(store, s3, name), as_json=as_json)
    if broken:
        raise broken[0]


def _show_tracked(store: "TrackingStore", tracked: "list[Tracked]", aliases: dict[str, str], *, as_json: bool) -> None:
    from dataclasses import asdict

    from infra.console import show_result

    rows = {
        one.model_version: f"run {one.run_id}, "
        + (f"registered as {one.registered}" if one.registered else "not in the bucket, so not registered")
        for one in tracked
    }
    rows |= {f"alias {alias}": version for alias, version in sorted(aliases.items())}
    result = {"uri": store.uri, "tracked": [asdict(one) for one in tracked], "aliases": aliases}
    show_result(f"MLflow at {store.uri}", rows or {"nothing": "there is no version"}, result, json_only=as_json)


def models_check(
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Hold the bucket and MLflow's registry side by side: a line for each difference, and exit code 1 if there is any.

    Compared are versions, the digests of their manifests, and channels with aliases; each line says what mends it.
    """
    from infra.console import show_result
    from training.errors import bucket_address
    from training.tracking.differences import differences
    from training.tracking.mirror import registered_model, see_bucket
    from training.tracking.mlflow_store import open_store

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    seen, store = see_bucket(s3, name), open_store()
    found = differences(seen, store.read_registry(registered_model(name)))
    rows = {
        "bucket": f"{bucket_address(name)}: {len(seen.versions)} versions, {len(seen.channels)} channels",
        "MLflow": f"{store.uri}, registered model {registered_model(name)}",
        "differences": str(len(found)),
    }
    result = {
        "bucket": bucket_address(name),
        "uri": store.uri,
        "registered_model": registered_model(name),
        "differences": found,
    }
    if not as_json:  # whole lines, to copy commands from
        sys.stdout.write("".join(f"{sentence}\n" for sentence in found))
    show_result("different stories" if found else "the same story", rows, result, json_only=as_json)
    if found:
        raise typer.Exit(1)
