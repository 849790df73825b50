"""`ridecast models list`, `show`, `compare` and `reproduce`: the models in a bucket."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from infra.cli.options import Aws, BucketOption, Json, Version, on_aws, open_bucket
from infra.cli.output import (
    live_display,
    minutes_text,
    months_text,
    show_result,
    some_of,
    time_text,
    value_text,
    write_json,
    write_lines,
    write_table,
)

if TYPE_CHECKING:
    from training.registry.catalog import Comparison, Model, ModelDetails, SlicePair
    from training.workflows.reproduce import Reproduction

_N_SLICES = 8
"""Slices in a table; JSON has all."""

_N_DIGITS = 12
"""Digits of a digest, as in versions; JSON has all."""


@on_aws
def list_command(aws: Aws, bucket: BucketOption = None, as_json: Json = False) -> None:
    """List the stored versions.

    Prints training months, errors, and the channels that point at each.

    Example: ridecast models list --stack ridecast
    """
    from training.errors import bucket_address
    from training.registry.catalog import list_models

    models = open_bucket(bucket, aws)
    _show_models(list_models(models), bucket_address(models.name), json_only=as_json)


@on_aws
def show_command(aws: Aws, version: Version, bucket: BucketOption = None, as_json: Json = False) -> None:
    """Show one version.

    Prints months, errors, slices, parameters, files, verdicts of the gate, and channels.

    Example: ridecast models show stable --stack ridecast
    """
    from training.registry.catalog import read_details
    from training.registry.versions import resolve_version

    models = open_bucket(bucket, aws)
    _show_model(read_details(models, resolve_version(models, version)), json_only=as_json)


@on_aws
def compare_command(aws: Aws, a: Version, b: Version, bucket: BucketOption = None, as_json: Json = False) -> None:
    """Compare two versions.

    Prints months, parameters, errors, and the slices that differ most.

    Example: ridecast models compare stable candidate --stack ridecast
    """
    from training.registry.catalog import compare, read_details
    from training.registry.versions import resolve_version

    models = open_bucket(bucket, aws)
    details = [read_details(models, resolve_version(models, one)) for one in (a, b)]
    _show_comparison(compare(*details), json_only=as_json)


@on_aws
def reproduce_command(aws: Aws, version: Version, bucket: BucketOption = None, as_json: Json = False) -> None:
    """Train a version again from its manifest and compare the bytes.

    Prints "identical", or a table of the differences, and exits with 1.

    Example: ridecast models reproduce stable --stack ridecast
    """
    from training.registry.versions import read_stored, resolve_version
    from training.workflows.reproduce import reproduce, train_as_before

    models = open_bucket(bucket, aws)
    stored = read_stored(models, resolve_version(models, version))
    with live_display() as display:
        found = reproduce(stored, train_as_before(display.step))
    _show_reproduction(found, json_only=as_json)
    if not found.is_identical:
        raise typer.Exit(1)


def _show_models(models: "Sequence[Model]", address: str, *, json_only: bool) -> None:
    if json_only:
        write_json({"bucket": address, "versions": [_model_json(model) for model in models]})
        return
    columns = ("version", "trained on", "validated on", "RMSE", "MAE", "channels")
    title = f"{address}: RMSE and MAE in minutes, on the validation months"
    write_table(title, columns, map(_model_row, models), numeric={"RMSE", "MAE"})


def _show_model(details: "ModelDetails", *, json_only: bool) -> None:
    manifest = details.manifest
    result = {
        **_model_json(details.model),
        "manifest": msgspec.to_builtins(manifest),
        "evaluation": msgspec.to_builtins(details.evaluation),
        "verdicts": details.verdicts,
        "artifacts": list(details.artifacts),
    }
    rows = {
        "trained on": f"{manifest.service} {months_text(manifest.train_months)}:"
        f" {sum(part.n_kept for part in manifest.data):,} rides of {sum(part.n_rows for part in manifest.data):,}",
        "validated on": months_text(manifest.validate_months),
        "RMSE, minutes": _beside_baseline(details.model, "rmse_minutes"),
        "MAE, minutes": _beside_baseline(details.model, "mae_minutes"),
        "tested on": _tested(details),
        "slices worse than the baseline": _worse(details),
        "parameters": "  ".join(f"{name}={value}" for name, value in manifest.parameters.items()),
        "software": "  ".join(f"{name} {value[:_N_DIGITS]}" for name, value in manifest.software.items()),
        "files": "  ".join(f"{name} {digest.n_bytes:,} B" for name, digest in manifest.files.items()),
        "artifacts": ", ".join(details.artifacts) or "none",
        "the gate": "; ".join(_verdict(channel, verdict) for channel, verdict in details.verdicts.items())
        or "not asked yet",
        "channels": ", ".join(details.model.channels) or "none",
        "stored": time_text(details.model.stored_at),
    }
    show_result(details.model.model_version, rows, result, json_only=json_only)


def _model_row(model: "Model") -> tuple[str, ...]:
    manifest = model.manifest
    if manifest is None:
        return (model.model_version, "not readable", model.problem, "", "", ", ".join(model.channels))
    return (
        model.model_version,
        months_text(manifest.train_months),
        months_text(manifest.validate_months),
        minutes_text(model.metric("rmse_minutes")),
        minutes_text(model.metric("mae_minutes")),
        ", ".join(model.channels),
    )


def _model_json(model: "Model") -> dict[str, Any]:
    manifest = model.manifest
    return {
        "model_version": model.model_version,
        "service": manifest.service if manifest else None,
        "train_months": list(manifest.train_months) if manifest else None,
        "validate_months": list(manifest.validate_months) if manifest else None,
        "rmse_minutes": model.metric("rmse_minutes"),
        "mae_minutes": model.metric("mae_minutes"),
        "channels": list(model.channels),
        "stored_at": model.stored_at.isoformat() if model.stored_at else None,
        "problem": model.problem,
    }


def _beside_baseline(model: "Model", metric: str) -> str:
    own, baseline = (minutes_text(model.metric(metric, part)) for part in ("validate", "validate_baseline"))
    return f"{own}   (the course's linear model: {baseline})"


def _tested(details: "ModelDetails") -> str:
    test = details.evaluation.test if details.evaluation else None
    if test is None:
        return "nothing"
    rmse, mae = minutes_text(test.model.rmse_minutes), minutes_text(test.model.mae_minutes)
    return f"{months_text(test.months)}: RMSE {rmse}, MAE {mae} minutes"


def _worse(details: "ModelDetails") -> str:
    from training.model.results import worse_than_baseline

    if details.evaluation is None:
        return "unknown: this version was exported without an evaluation"
    return some_of([f"{one.by} {one.name}" for one in worse_than_baseline(details.evaluation.validate)], _N_SLICES)


def _verdict(channel: str, verdict: Any) -> str:
    if not isinstance(verdict, dict):
        return f"{channel}: not readable"
    word = "passed" if verdict.get("passed") else "failed"
    return f"{channel}: {word} against {verdict.get('against') or 'nothing'}"


def _show_comparison(comparison: "Comparison", *, json_only: bool) -> None:
    slices = [{**msgspec.to_builtins(one), "off_minutes": round(one.off_minutes, 4)} for one in comparison.slices]
    result = {
        "a": comparison.a,
        "b": comparison.b,
        "same_validation": comparison.is_same_validation,
        "differences": {pair.name: [pair.a, pair.b] for pair in comparison.facts},
        "metrics": {pair.name: [pair.a, pair.b] for pair in comparison.metrics},
        "slices": slices,
    }
    if json_only:
        write_json(result)
        return
    pairs = [*comparison.facts, *comparison.metrics]
    rows = ((pair.name, value_text(pair.a), value_text(pair.b)) for pair in pairs)
    write_table(f"A: {comparison.a}\nB: {comparison.b}", ("", "A", "B"), rows, numeric={"A", "B"})
    if not comparison.is_same_validation:
        write_lines(["They were validated on different months: their errors cannot be compared."])
    if comparison.slices:
        slice_rows = map(_slice_row, comparison.slices[:_N_SLICES])
        columns = ("slice", "rides", "A", "B", "B - A")
        write_table("Slices that differ most, RMSE in minutes", columns, slice_rows, numeric=columns[1:])


def _show_reproduction(found: "Reproduction", *, json_only: bool) -> None:
    result = {
        "model_version": found.model_version,
        "identical": found.is_identical,
        "only_code_differs": found.is_code,
        "again_version": found.again_version,
        "differences": msgspec.to_builtins(found.differences),
    }
    if json_only:
        write_json(result)
    elif found.is_identical:
        write_lines([f"{found.model_version}: identical, every byte of every file"])
    else:
        rows = ((one.fact, value_text(one.stored), value_text(one.again)) for one in found.differences)
        title = f"{found.model_version} was trained again as {found.again_version}"
        write_table(title, ("", "stored", "trained again"), rows)
        if found.is_code:
            write_lines(["Data, software and parameters are the same: this project's code has changed."])


def _slice_row(one: "SlicePair") -> tuple[str, ...]:
    rmse = (minutes_text(one.a_rmse_minutes), minutes_text(one.b_rmse_minutes))
    return (f"{one.by} {one.name}", f"{one.n_rides:,}", *rmse, f"{one.off_minutes:+.2f}")
