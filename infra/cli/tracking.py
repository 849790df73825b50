"""`ridecast models sync` and `check`: bring MLflow up to date with a bucket, and compare the two."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import BUILD, Aws, BucketOption, Bundles, Json, on_aws, open_bucket
from infra.cli.output import counting, error_console, show_result, write_lines

if TYPE_CHECKING:
    from lambda_function.errors import BundleError
    from training.registry.sources import Sources
    from training.tracking.mirror import BucketView, Tracked
    from training.tracking.store import TrackingStore


@on_aws
def sync_command(
    aws: Aws,
    version: Annotated[
        str | None, typer.Argument(help="Version, the beginning of one, or a channel that points at one.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of the bucket and of --bundles.")] = False,
    bundles: Bundles = BUILD / "bundles",
    bucket: BucketOption = None,
    as_json: Json = False,
) -> None:
    """Bring MLflow up to date with the bucket.

    Logs missing runs, registers missing versions and sets aliases as the channels are. Safe to repeat. Prints the
    run of each version. A broken bundle is reported at the end, after all others.

    Example: ridecast models sync --all --stack ridecast
    """
    if (version is None) != every:
        raise typer.BadParameter("name one version, or give --all", param_hint="'VERSION'")

    from training.registry.sources import Sources
    from training.tracking.mirror import follow_channels
    from training.tracking.mlflow_store import open_store

    models = open_bucket(bucket, aws)
    sources = Sources(models, bundles)
    versions = sources.all_versions() if version is None else (sources.resolve(version),)
    store = open_store()
    tracked, broken = _sync(store, sources, versions)
    _show_synced(store, tracked, follow_channels(store, models), as_json=as_json)
    if broken:
        raise broken[0]


def _sync(
    store: "TrackingStore", sources: "Sources", versions: tuple[str, ...]
) -> "tuple[list[Tracked], list[BundleError]]":
    """Sync versions. Return those that worked, and the errors of broken bundles."""
    from lambda_function.errors import BundleError
    from training.tracking.mirror import catch_up

    tracked, broken = [], []
    with counting(error_console(), "syncing", len(versions)) as count:
        for number, one in enumerate(versions, 1):
            try:
                tracked.append(catch_up(store, sources, one))
            except BundleError as error:
                broken.append(error)
            count(number)
    return tracked, broken


def _show_synced(store: "TrackingStore", tracked: "list[Tracked]", aliases: dict[str, str], *, as_json: bool) -> None:
    rows = {
        one.model_version: f"run {one.run_id}, "
        + (f"registered as {one.registered}" if one.registered else "not in the bucket, so not registered")
        for one in tracked
    }
    rows |= {f"alias {alias}": version for alias, version in sorted(aliases.items())}
    result = {"uri": store.uri, "tracked": [asdict(one) for one in tracked], "aliases": aliases}
    show_result(f"MLflow at {store.uri}", rows or {"nothing": "there is no version"}, result, json_only=as_json)


@on_aws
def check_command(aws: Aws, bucket: BucketOption = None, as_json: Json = False) -> None:
    """Compare the bucket with MLflow's registry.

    Compares versions, manifest digests, and channels with aliases. Prints one line per difference, with the command
    that removes it. Exits with 1 if there are any.

    Example: ridecast models check --stack ridecast
    """
    from training.tracking.mirror import differences, registered_model, view_bucket
    from training.tracking.mlflow_store import open_store
    from training.tracking.runs import with_remedy

    view, store = view_bucket(open_bucket(bucket, aws)), open_store()
    with with_remedy(store, view.name):
        registry = store.read_registry(registered_model(view.name))
    found = differences(view, registry)
    _show_differences(view, store.uri, found, as_json=as_json)
    if found:
        raise typer.Exit(1)


def _show_differences(view: "BucketView", uri: str, found: list[str], *, as_json: bool) -> None:
    from training.errors import bucket_address
    from training.tracking.mirror import can_be_alias, registered_model

    address, model = bucket_address(view.name), registered_model(view.name)
    rows = {
        "bucket": f"{address}: {len(view.versions)} versions, {len(view.channels)} channels",
        "MLflow": f"{uri}, registered model {model}",
        "differences": str(len(found)),
    }
    if no_alias := [channel for channel in sorted(view.channels) if not can_be_alias(channel)]:
        rows["no alias"] = f"{', '.join(no_alias)}: MLflow reserves such names for versions"
    if not as_json:
        write_lines(found)
    result = {"bucket": address, "uri": uri, "registered_model": model, "differences": found}
    show_result("Differences" if found else "No differences", rows, result, json_only=as_json)
