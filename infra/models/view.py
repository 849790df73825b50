"""A bucket's models, on a terminal and in JSON: a list, or one of them in full."""

from collections.abc import Sequence
from typing import Any

import msgspec

from infra.console import show_result
from infra.models.facts import Model, Told, worse_than_baseline
from infra.table import escaped, minutes_text, months_text, time_text, write_table

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


def show_model(told: Told, *, json_only: bool) -> None:
    """Shows one version in full."""
    manifest = told.manifest
    result = {
        **_model_json(told.model),
        "manifest": msgspec.to_builtins(manifest),
        "evaluation": msgspec.to_builtins(told.evaluation),
        "verdicts": told.verdicts,
        "papers": list(told.papers),
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
        "papers": ", ".join(told.papers) or "none",
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


def _tested(told: Told) -> str:
    test = told.evaluation.test if told.evaluation else None
    if test is None:
        return "nothing"
    rmse, mae = minutes_text(test.model.rmse_minutes), minutes_text(test.model.mae_minutes)
    return f"{months_text(test.months)}: RMSE {rmse}, MAE {mae} minutes"


def _worse(told: Told) -> str:
    if told.evaluation is None:
        return "unknown: this version was exported without an evaluation"
    worse = worse_than_baseline(told.evaluation)
    named = ", ".join(f"{one.by} {one.name}" for one in worse[:N_SLICES])
    return f"{named} and {len(worse) - N_SLICES} more slices" if len(worse) > N_SLICES else named or "no slice"


def _verdict(channel: str, verdict: Any) -> str:
    if not isinstance(verdict, dict):
        return f"{channel}: not readable"
    word = "passed" if verdict.get("passed") else "failed"
    return f"{channel}: {word} against {verdict.get('against') or 'nothing'}"
