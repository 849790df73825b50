"""`ridecast models sync` and `check`: bring MLflow up to date with a bucket, and compare the two."""

from dataclasses import asdict
from typing import Annotated

import typer

from infra.cli.options import BUILD, BucketAws, Bundles, Json, expand_options
from infra.cli.output import counted, show_result, write_lines


@expand_options
def sync_command(
    aws: BucketAws,
    version: Annotated[
        str | None, typer.Argument(help="Version, the beginning of one, or a channel that points at one.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of the bucket and of --bundles.")] = False,
    bundles: Bundles = BUILD / "bundles",
    as_json: Json = False,
) -> None:
    """Bring MLflow up to date with the bucket.

    Logs missing runs, registers missing versions and sets aliases as the channels are. Safe to repeat. Prints the
    run of each version. A broken bundle is reported at the end, after all others.

    Example: ridecast models sync --all --stack ridecast
    """
    if (version is None) != every:
        raise typer.BadParameter("name one version, or give --all", param_hint="'VERSION'")

    from lambda_function.errors import BundleError
    from training.registry.sources import Sources
    from training.tracking.mirror import catch_up, follow_channels
    from training.tracking.mlflow_store import open_store

    models = aws.open_bucket()
    sources = Sources(models, bundles)
    versions = sources.all_versions() if version is None else (sources.resolve(version),)
    store = open_store()
    tracked, broken = [], []
    with counted("syncing", versions, len(versions)) as each:
        for one in each:
            try:
                tracked.append(catch_up(store, sources, one))
            except BundleError as error:
                broken.append(error)
    aliases = follow_channels(store, models)
    shown = {
        one.model_version: f"run {one.run_id}, "
        + (f"registered as {one.registered}" if one.registered else "not in the bucket, so not registered")
        for one in tracked
    }
    shown |= {f"alias {alias}": version for alias, version in sorted(aliases.items())}
    result = {"uri": store.uri, "tracked": [asdict(one) for one in tracked], "aliases": aliases}
    show_result(f"MLflow at {store.uri}", result, as_json=as_json, shown=shown or {"nothing": "there is no version"})
    if broken:
        raise broken[0]


@expand_options
def check_command(aws: BucketAws, as_json: Json = False) -> None:
    """Compare the bucket with MLflow's registry.

    Compares versions, manifest digests, and channels with aliases. Prints one line per difference, with the command
    that removes it. Exits with 1 if there are any.

    Example: ridecast models check --stack ridecast
    """
    from training.errors import bucket_address
    from training.tracking.mirror import can_be_alias, differences, registered_model, view_bucket
    from training.tracking.mlflow_store import open_store
    from training.tracking.runs import with_remedy

    view, store = view_bucket(aws.open_bucket()), open_store()
    address, model = bucket_address(view.name), registered_model(view.name)
    with with_remedy(store, view.name):
        found = differences(view, store.read_registry(model))
    shown = {
        "bucket": f"{address}: {len(view.versions)} versions, {len(view.channels)} channels",
        "MLflow": f"{store.uri}, registered model {model}",
        "differences": len(found),
    }
    if no_alias := [channel for channel in sorted(view.channels) if not can_be_alias(channel)]:
        shown["no alias"] = f"{', '.join(no_alias)}: MLflow reserves such names for versions"
    if not as_json:
        write_lines(found)
    result = {"bucket": address, "uri": store.uri, "registered_model": model, "differences": found}
    show_result("Differences" if found else "No differences", result, as_json=as_json, shown=shown)
    if found:
        raise typer.Exit(1)
