"""`ridecast models track` and `check`: what MLflow has missed, and whether it tells the same story as the bucket."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import BUILD, LOCAL_BUCKET, Aws, Bundles, Json, ModelBucket, on_aws, open_bucket

if TYPE_CHECKING:
    from lambda_function.errors import BundleError
    from training.tracking.mirror import BucketView, Sources, Tracked
    from training.tracking.store import TrackingStore


@on_aws
def track_command(
    aws: Aws,
    version: Annotated[
        str | None, typer.Argument(help="A version, the beginning of one, or a channel that points at it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of the bucket and of the folder.")] = False,
    bundles: Bundles = BUILD / "bundles",
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Tell MLflow what it has missed: runs, registered versions, and aliases after the channels. Safe to repeat.

    A broken bundle does not keep MLflow from the others, and is told of at the end.
    """
    if (version is None) != every:
        raise typer.BadParameter("name one version, or give --all", param_hint="'VERSION'")

    from training.tracking.mirror import Sources, follow_channels
    from training.tracking.mlflow_store import open_store

    models = open_bucket(bucket, aws)
    sources = Sources(models, bundles)
    versions = sources.all_versions() if version is None else (sources.resolve(version),)
    store = open_store()
    tracked, broken = _track(store, sources, versions)
    _show_tracked(store, tracked, follow_channels(store, models), as_json=as_json)
    if broken:
        raise broken[0]


def _track(
    store: "TrackingStore", sources: "Sources", versions: tuple[str, ...]
) -> "tuple[list[Tracked], list[BundleError]]":
    """Tracks versions; the broken ones among them are left out, each with what is wrong with it."""
    from infra.cli.output import counting, error_console
    from lambda_function.errors import BundleError
    from training.tracking.mirror import catch_up

    tracked, broken = [], []
    with counting(error_console(), "tracking", len(versions)) as count:
        for number, one in enumerate(versions, 1):
            try:
                tracked.append(catch_up(store, sources, one))
            except BundleError as error:
                broken.append(error)
            count(number)
    return tracked, broken


def _show_tracked(store: "TrackingStore", tracked: "list[Tracked]", aliases: dict[str, str], *, as_json: bool) -> None:
    from dataclasses import asdict

    from infra.cli.output import show_result

    rows = {
        one.model_version: f"run {one.run_id}, "
        + (f"registered as {one.registered}" if one.registered else "not in the bucket, so not registered")
        for one in tracked
    }
    rows |= {f"alias {alias}": version for alias, version in sorted(aliases.items())}
    result = {"uri": store.uri, "tracked": [asdict(one) for one in tracked], "aliases": aliases}
    show_result(f"MLflow at {store.uri}", rows or {"nothing": "there is no version"}, result, json_only=as_json)


@on_aws
def check_command(aws: Aws, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """Hold the bucket and MLflow's registry side by side: a line for each difference, and exit code 1 if there is any.

    Compared are versions, the digests of their manifests, and channels with aliases; each line says what mends it.
    """
    from training.tracking.mirror import differences, registered_model, see_bucket
    from training.tracking.mlflow_store import open_store
    from training.tracking.runs import about

    seen, store = see_bucket(open_bucket(bucket, aws)), open_store()
    with about(store, name):
        registry = store.read_registry(registered_model(name))
    found = differences(seen, registry)
    _show_differences(seen, store.uri, found, as_json=as_json)
    if found:
        raise typer.Exit(1)


def _show_differences(seen: "BucketView", uri: str, found: list[str], *, as_json: bool) -> None:
    from infra.cli.output import show_result
    from training.errors import bucket_address
    from training.tracking.mirror import can_be_alias, registered_model

    address, model = bucket_address(seen.name), registered_model(seen.name)
    rows = {
        "bucket": f"{address}: {len(seen.versions)} versions, {len(seen.channels)} channels",
        "MLflow": f"{uri}, registered model {model}",
        "differences": str(len(found)),
    }
    if no_alias := [channel for channel in sorted(seen.channels) if not can_be_alias(channel)]:
        rows["no alias"] = f"{', '.join(no_alias)}: MLflow keeps such names for versions"
    if not as_json:  # whole lines, to copy commands from
        sys.stdout.write("".join(f"{sentence}\n" for sentence in found))
    result = {"bucket": address, "uri": uri, "registered_model": model, "differences": found}
    show_result("different stories" if found else "the same story", rows, result, json_only=as_json)
