"""`ridecast models list`, `show`, `compare` and `reproduce`: what a bucket holds of models."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from infra.cli.options import LOCAL_BUCKET, Aws, Json, ModelBucket, Version, on_aws, open_bucket
from infra.cli.output import escaped, minutes_text, months_text, show_result, time_text, value_text, write_table
from training.model.results import worse_than_baseline
from training.registry.catalog import Comparison, Model, ModelDetails, Pair, SlicePair

if TYPE_CHECKING:  # it brings scikit-learn, which a comparison does not wait for
    from training.workflows.reproduce import Reproduction


@on_aws
def list_command(aws: Aws, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """List the versions: what they learnt from, how far they are off, which channels point at them."""
    from training.errors import bucket_address
    from training.registry.catalog import list_models

    models = open_bucket(bucket, aws)
    show_models(list_models(models), bucket_address(models.name), json_only=as_json)


@on_aws
def show_command(aws: Aws, version: Version, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """Show one version: months, errors, slices, parameters, files, the gate's verdicts, channels."""
    from training.registry.catalog import read_details
    from training.registry.versions import resolve_version

    models = open_bucket(bucket, aws)
    show_model(read_details(models, resolve_version(models, version)), json_only=as_json)


@on_aws
def compare_command(
    aws: Aws, a: Version, b: Version, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False
) -> None:
    """Put two versions side by side: months, parameters, errors, and the slices that differ most."""
    from training.registry.catalog import compare, read_details
    from training.registry.versions import resolve_version

    models = open_bucket(bucket, aws)
    told = [read_details(models, resolve_version(models, one)) for one in (a, b)]
    show_comparison(compare(*told), json_only=as_json)


@on_aws
def reproduce_command(aws: Aws, version: Version, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """Train a version again from its manifest, and say identical or what differs (then with exit code 1)."""
    from infra.cli.output import ConsoleDisplay, error_console
    from training.registry.versions import read_stored, resolve_version
    from training.workflows.reproduce import reproduce, train_as_before

    models = open_bucket(bucket, aws)
    stored = read_stored(models, resolve_version(models, version))
    with ConsoleDisplay(error_console()).live() as display:
        found = reproduce(stored, train_as_before(display.step))
    show_reproduction(found, json_only=as_json)
    if not found.is_identical:
        raise typer.Exit(1)


# MERGED FROM infra/models/view.py
# A bucket's models, on a terminal and in JSON: a list, or one of them in full.
N_SLICES = 8
"""Slices that are named; JSON has all."""

_N_DIGITS = 12
"""Of a digest, as versions have them; JSON has all."""


def show_models(models: Sequence[Model], address: str, *, json_only: bool) -> None:
    """Shows a line a version."""
    if not json_only:
        columns = ("version", "learnt from", "measured on", "RMSE", "MAE", "channels")
        write_table(f"{address}: RMSE and MAE in minutes, on the validation months", columns, map(_model_row, models))
    result = {"bucket": address, "versions": [_model_json(model) for model in models]}
    show_result("", {}, result, json_only=True)


def show_model(told: ModelDetails, *, json_only: bool) -> None:
    """Shows one version in full."""
    manifest = told.manifest
    result = {
        **_model_json(told.model),
        "manifest": msgspec.to_builtins(manifest),
        "evaluation": msgspec.to_builtins(told.evaluation),
        "verdicts": told.verdicts,
        "artifacts": list(told.artifacts),
    }
    rows = {
        "learnt from": f"{manifest.service} {months_text(manifest.train_months)}:"
        f" {sum(part.n_kept for part in manifest.data):,} rides of {sum(part.n_rows for part in manifest.data):,}",
        "validated on": months_text(manifest.validate_months),
        "RMSE, minutes": _beside_baseline(told.model, "rmse_minutes"),
        "MAE, minutes": _beside_baseline(told.model, "mae_minutes"),
        "tested on": _tested(told),
        "worse than the baseline in": _worse(told),
        "parameters": "  ".join(f"{name}={value}" for name, value in manifest.parameters.items()),
        "software": "  ".join(f"{name} {value[:_N_DIGITS]}" for name, value in manifest.software.items()),
        "files": "  ".join(f"{name} {digest.n_bytes:,} B" for name, digest in manifest.files.items()),
        "artifacts": ", ".join(told.artifacts) or "none",
        "the gate": "; ".join(_verdict(channel, verdict) for channel, verdict in told.verdicts.items()) or "not asked",
        "channels": ", ".join(told.model.channels) or "none",
        "stored": time_text(told.model.stored_at),
    }
    show_result(told.model.model_version, escaped(rows), result, json_only=json_only)


def _model_row(model: Model) -> tuple[str, ...]:
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


def _model_json(model: Model) -> dict[str, Any]:
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


def _beside_baseline(model: Model, metric: str) -> str:
    own, baseline = (minutes_text(model.metric(metric, part)) for part in ("validate", "validate_baseline"))
    return f"{own}   (the course's model: {baseline})"


def _tested(told: ModelDetails) -> str:
    test = told.evaluation.test if told.evaluation else None
    if test is None:
        return "nothing"
    rmse, mae = minutes_text(test.model.rmse_minutes), minutes_text(test.model.mae_minutes)
    return f"{months_text(test.months)}: RMSE {rmse}, MAE {mae} minutes"


def _worse(told: ModelDetails) -> str:
    if told.evaluation is None:
        return "unknown: this version was exported without an evaluation"
    worse = worse_than_baseline(told.evaluation.validate)
    named = ", ".join(f"{one.by} {one.name}" for one in worse[:N_SLICES])
    return f"{named} and {len(worse) - N_SLICES} more slices" if len(worse) > N_SLICES else named or "no slice"


def _verdict(channel: str, verdict: Any) -> str:
    if not isinstance(verdict, dict):
        return f"{channel}: not readable"
    word = "passed" if verdict.get("passed") else "failed"
    return f"{channel}: {word} against {verdict.get('against') or 'nothing'}"


# MERGED FROM infra/models/comparison_view.py
# Two models side by side, on a terminal and in JSON: two versions, or one and what training again made of it.
"""Slices that a table names; JSON has all."""


def show_comparison(comparison: Comparison, *, json_only: bool) -> None:
    """Shows two versions side by side: A is the one named first."""
    if not json_only:
        pairs = [*comparison.facts, *comparison.metrics]
        write_table(f"A: {comparison.a}\nB: {comparison.b}", ("", "A", "B"), map(_pair_row, pairs))
        if not comparison.is_same_validation:
            sys.stdout.write("They were validated on different months: their errors do not compare.\n")
        if comparison.slices:
            rows = map(_slice_row, comparison.slices[:N_SLICES])
            write_table("Slices that differ most, RMSE in minutes", ("slice", "rides", "A", "B", "B - A"), rows)
    slices = [{**_fields(one), "off_minutes": round(one.off_minutes, 4)} for one in comparison.slices]
    result = {
        "a": comparison.a,
        "b": comparison.b,
        "same_validation": comparison.is_same_validation,
        "differences": {pair.name: [pair.a, pair.b] for pair in comparison.facts},
        "metrics": {pair.name: [pair.a, pair.b] for pair in comparison.metrics},
        "slices": slices,
    }
    show_result("", {}, result, json_only=True)


def show_reproduction(found: "Reproduction", *, json_only: bool) -> None:
    """Shows whether training again gave the same bytes, or else what differs, causes first."""
    if not json_only and found.is_identical:
        sys.stdout.write(f"{found.model_version}: identical, every byte of every file\n")
    elif not json_only:
        rows = ((one.fact, value_text(one.stored), value_text(one.again)) for one in found.differences)
        write_table(f"{found.model_version} came out as {found.again_version}", ("", "stored", "trained again"), rows)
        if found.is_code:
            sys.stdout.write("Data, software and parameters are the same: this project's code is another than then.\n")
    result = {
        "model_version": found.model_version,
        "identical": found.is_identical,
        "only_code_differs": found.is_code,
        "again_version": found.again_version,
        "differences": [_fields(one) for one in found.differences],
    }
    show_result("", {}, result, json_only=True)


def _pair_row(pair: Pair) -> tuple[str, ...]:
    return (pair.name, value_text(pair.a), value_text(pair.b))


def _slice_row(one: SlicePair) -> tuple[str, ...]:
    rmse = (minutes_text(one.a_rmse_minutes), minutes_text(one.b_rmse_minutes))
    return (f"{one.by} {one.name}", f"{one.n_rides:,}", *rmse, f"{one.off_minutes:+.2f}")


def _fields(value: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return fields
