"""`ridecast models list`, `show`, `compare` and `reproduce`: the models in a bucket."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from infra.cli.options import BucketAws, Json, Labelled, Version, expand_options
from infra.cli.output import (
    begin_text,
    beside_baseline,
    live_display,
    minutes_text,
    months_text,
    show_result,
    time_text,
    value_text,
    worse_slices,
    write_facts,
    write_json,
    write_lines,
    write_table,
)

if TYPE_CHECKING:
    from training.evaluation.compare import PairedResult, SliceDifference
    from training.registry.bucket import Bucket
    from training.registry.catalog import Model, ModelDetails, Served, SlicePair

_N_SLICES = 8
"""Slices in a table; JSON has all."""

_N_DIGITS = 12
"""Digits of a digest, as in versions; JSON has all."""


@expand_options
def list_command(aws: BucketAws, as_json: Json = False) -> None:
    """List the stored versions.

    Prints training months, errors, and the channels that each serves.

    Example: ridecast models list --stack ridecast
    """
    from training.errors import bucket_address
    from training.registry.catalog import list_models

    bucket = aws.open_bucket()
    address, models = bucket_address(bucket.name), list_models(bucket)
    if as_json:
        write_json({"bucket": address, "versions": [_model_json(model) for model in models]})
        return
    columns = ("version", "trained on", "validated on", "RMSE", "MAE", "channels")
    title = f"{address}: RMSE and MAE in minutes, on the validation months"
    empty = "no version yet: `ridecast train --channel stable` trains one and releases it"
    write_table(title, columns, map(_model_row, models), numeric={"RMSE", "MAE"}, empty=empty)


@expand_options
def show_command(aws: BucketAws, version: Version, as_json: Json = False) -> None:
    """Show one version.

    Prints months, errors, slices, parameters, files, verdicts of the gate, and channels.

    Example: ridecast models show stable --stack ridecast
    """
    from training.registry.catalog import read_details
    from training.registry.versions import resolve_version

    models = aws.open_bucket()
    details = read_details(models, resolve_version(models, version))
    manifest = details.manifest
    result = {
        **_model_json(details.model),
        "manifest": msgspec.to_builtins(manifest),
        "evaluation": msgspec.to_builtins(details.evaluation),
        "verdicts": details.verdicts,
        "artifacts": list(details.artifacts),
    }
    shown = {
        "trained on": f"{manifest.service} {months_text(manifest.train_months)}:"
        f" {sum(part.n_kept for part in manifest.data):,} rides of {sum(part.n_rows for part in manifest.data):,}",
        "validated on": months_text(manifest.validate_months),
        "RMSE, minutes": _errors(details.model, "rmse_minutes"),
        "MAE, minutes": _errors(details.model, "mae_minutes"),
        "tested on": _tested(details),
        "slices worse than the baseline": worse_slices(details.evaluation.validate, _N_SLICES)
        if details.evaluation
        else "unknown: this version was exported without an evaluation",
        "parameters": "  ".join(f"{name}={value}" for name, value in manifest.parameters.items()),
        "software": "  ".join(f"{name} {value[:_N_DIGITS]}" for name, value in manifest.software.items()),
        "files": "  ".join(f"{name} {digest.n_bytes:,} B" for name, digest in manifest.files.items()),
        "artifacts": details.artifacts,
        "the gate": "; ".join(_verdict(channel, verdict) for channel, verdict in details.verdicts.items())
        or "no verdict yet",
        "channels": tuple(map(_served_text, details.model.segments)),
        "stored": time_text(details.model.stored_at),
    }
    show_result(details.model.model_version, result, as_json=as_json, shown=shown)


@expand_options
def compare_command(
    aws: BucketAws,
    a: Version,
    b: Version,
    test: Annotated[
        str | None, typer.Option(help="Months to compare on. (default: the latest local month that neither has seen)")
    ] = None,
    labelled: Labelled = None,
    as_json: Json = False,
) -> None:
    """Compare two versions.

    Prints how they differ in months and parameters, and the difference of their errors on a month that neither has
    seen: as a whole and by slice, each with an interval.

    Example: ridecast models compare stable candidate --stack ridecast
    """
    from training.registry.catalog import compare, read_details
    from training.registry.versions import resolve_version

    models = aws.open_bucket()
    versions = [resolve_version(models, one) for one in (a, b)]
    found = compare(*(read_details(models, version) for version in versions))
    unseen, problem = _on_unseen(models, versions, aws.open_labelled(labelled) or models, test)
    result = {
        "a": found.a,
        "b": found.b,
        "unseen": unseen and msgspec.to_builtins(unseen),
        "unseen_problem": problem,
        "same_validation": found.is_same_validation,
        "differences": {pair.name: [pair.a, pair.b] for pair in found.facts},
        "metrics": {pair.name: [pair.a, pair.b] for pair in found.metrics},
        "slices": [{**msgspec.to_builtins(one), "off_minutes": round(one.off_minutes, 4)} for one in found.slices],
    }
    if as_json:
        write_json(result)
        return
    pairs = [*found.facts, *found.metrics]
    rows = ((pair.name, value_text(pair.a), value_text(pair.b)) for pair in pairs)
    write_table(f"A: {found.a}\nB: {found.b}", ("", "A", "B"), rows, numeric={"A", "B"})
    if not found.is_same_validation:
        write_lines(["They were validated on different months: these errors are of different rides"])
    if unseen:
        _write_unseen(unseen)
        return
    write_facts("", {"not compared on new rides": problem})
    if found.slices:
        slice_rows = map(_slice_row, found.slices[:_N_SLICES])
        columns = ("slice", "rides", "A", "B", "B - A")
        title = "Slices of the validation months that differ most, RMSE in minutes"
        write_table(title, columns, slice_rows, numeric=columns[1:])


def _on_unseen(
    models: "Bucket", versions: list[str], labelled: "Bucket", test: str | None
) -> tuple["PairedResult | None", str]:
    """Return the comparison on new rides, or None and the reason why there is none."""
    from lambda_function.errors import BundleError
    from training.errors import UserError
    from training.registry.versions import read_stored
    from training.workflows.compare import compare_on_unseen

    with live_display() as display:
        display.step("predicting a month that neither has seen")
        try:
            bundles = [read_stored(models, version) for version in versions]
            return compare_on_unseen(bundles[0], bundles[1], labelled, test), ""
        except (UserError, BundleError) as error:
            if test:
                raise
            return None, str(error)


def _write_unseen(unseen: "PairedResult") -> None:
    """Print the difference on new rides, and the slices that differ most surely."""
    whole = unseen.difference
    better = "neither is better by more than chance"
    if whole.low > 0 or whole.high < 0:
        better = f"{'A' if whole.low > 0 else 'B'} is better"
    facts = {
        "RMSE of A, minutes": f"{unseen.a.rmse_minutes:.3f}",
        "RMSE of B, minutes": f"{unseen.b.rmse_minutes:.3f}",
        "B - A": f"{whole.difference_rmse_minutes:+.3f} [{whole.low:+.3f}, {whole.high:+.3f}]: {better}",
        "measured on": f"{whole.n_rides:,} rides of {whole.n_days} days",
    }
    write_facts(f"On {months_text(unseen.months)}, which neither has seen", facts)
    if unseen.slices:
        columns = ("slice", "rides", "A", "B", "B - A", "interval")
        title = "Slices that differ most surely, RMSE in minutes; intervals for all slices at once"
        write_table(title, columns, map(_difference_row, unseen.slices[:_N_SLICES]), numeric=columns[1:])


@expand_options
def reproduce_command(aws: BucketAws, version: Version, labelled: Labelled = None, as_json: Json = False) -> None:
    """Train a version again from its manifest and compare the bytes.

    Prints "identical", or a table of the differences, and exits with 1.

    Example: ridecast models reproduce stable --stack ridecast
    """
    from training.registry.versions import read_stored, resolve_version
    from training.workflows.reproduce import reproduce, train_as_before

    models = aws.open_bucket()
    stored = read_stored(models, resolve_version(models, version))
    with live_display() as display:
        found = reproduce(stored, train_as_before(aws.open_labelled(labelled) or models, display.step))
    result = {
        "model_version": found.model_version,
        "identical": found.is_identical,
        "only_code_differs": found.is_code,
        "again_version": found.again_version,
        "differences": msgspec.to_builtins(found.differences),
    }
    if as_json:
        write_json(result)
    elif found.is_identical:
        write_lines([f"{found.model_version}: identical, every byte of every file"])
    else:
        rows = ((one.fact, value_text(one.stored), value_text(one.again)) for one in found.differences)
        title = f"{found.model_version} was trained again as {found.again_version}"
        write_table(title, ("", "stored", "trained again"), rows)
        if found.is_code:
            write_lines(["Data, software and parameters are the same: this project's code has changed."])
    if not found.is_identical:
        raise typer.Exit(1)


def _model_row(model: "Model") -> tuple[str, ...]:
    manifest = model.manifest
    if manifest is None:
        return (model.model_version, "not readable", model.problem, "", "", ", ".join(_serving(model)))
    return (
        model.model_version,
        months_text(manifest.train_months),
        months_text(manifest.validate_months),
        minutes_text(model.metric("rmse_minutes")),
        minutes_text(model.metric("mae_minutes")),
        ", ".join(_serving(model)),
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
        "segments": [
            {
                "channel": one.channel,
                "effective_from": one.segment.effective_from,
                "effective_until": one.next.effective_from if one.next else None,
                "n_calibrations": one.n_calibrations,
                "as_of": one.as_of,
                "share": one.share,
                "is_candidate": one.is_candidate,
            }
            for one in model.segments
        ],
        "stored_at": model.stored_at.isoformat() if model.stored_at else None,
        "problem": model.problem,
    }


def _serving(model: "Model") -> list[str]:
    """Return the channels whose rides it serves now or next, with the time from or until which it does."""
    now_s = time.time()
    return [
        one.channel
        if one.next is None and one.share == 1 and one.segment.effective_from_s <= now_s
        else _served_text(one)
        for one in model.segments
        if one.next is None or one.next.effective_from_s > now_s
    ]


def _served_text(one: "Served") -> str:
    until = f" until {begin_text(one.next)}" if one.next else ""
    calibrated = f", calibrated as of {one.as_of}" if one.as_of else ""
    share = f", {100 * one.share:g}% of the rides" if one.share < 1 else ""
    return f"{one.channel} from {begin_text(one.segment)}{until}{calibrated}{share}"


def _errors(model: "Model", metric: str) -> str:
    return beside_baseline(model.metric(metric), model.metric(metric, "validate_baseline"))


def _tested(details: "ModelDetails") -> str:
    test = details.evaluation.test if details.evaluation else None
    if test is None:
        return "nothing"
    rmse, mae = minutes_text(test.model.rmse_minutes), minutes_text(test.model.mae_minutes)
    return f"{months_text(test.months)}: RMSE {rmse}, MAE {mae} minutes"


def _verdict(channel: str, verdict: Any) -> str:
    if not isinstance(verdict, dict):
        return f"{channel}: not readable"
    word = "passed" if verdict.get("passed") else "failed"
    return f"{channel}: {word} against {verdict.get('against') or 'nothing'}"


def _difference_row(one: "SliceDifference") -> tuple[str, ...]:
    rmse = (minutes_text(one.a_rmse_minutes), minutes_text(one.b_rmse_minutes))
    interval = "one day" if one.low is None or one.high is None else f"{one.low:+.1%} to {one.high:+.1%}"
    return (f"{one.by} {one.name}", f"{one.n_rides:,}", *rmse, f"{one.difference:+.1%}", interval)


def _slice_row(one: "SlicePair") -> tuple[str, ...]:
    rmse = (minutes_text(one.a_rmse_minutes), minutes_text(one.b_rmse_minutes))
    return (f"{one.by} {one.name}", f"{one.n_rides:,}", *rmse, f"{one.off_minutes:+.2f}")
