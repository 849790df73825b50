"""Models on a terminal and in JSON: a list, one in full, two side by side, a channel's moves, a reproduction."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.console import show_result
from infra.model_facts import Comparison, Model, Pair, Told, worse_than_baseline
from infra.printable import printable
from training.history import Line
from training.publish import Moved

if TYPE_CHECKING:  # it brings scikit-learn, which a channel's move does not wait for
    from training.reproduce import Reproduction

N_SLICES = 8
"""Slices that a table names; JSON has all."""

_N_DIGITS = 12
"""Of a digest, as versions have them; JSON has all."""

_WHOLE = {"version", "to", "RMSE", "MAE", "why", "channels", "measured on"}
"""Columns that are not broken on a narrow terminal: a person copies versions."""

_NUMERIC = {"RMSE", "MAE", "rides", "A", "B", "B - A"}


def show_models(models: Sequence[Model], address: str, *, json_only: bool) -> None:
    """Shows a line a version."""
    if not json_only:
        columns = ("version", "learnt from", "measured on", "RMSE", "MAE", "channels")
        _write_table(f"{address}: RMSE and MAE in minutes, on the validation months", columns, map(_model_row, models))
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
        "learnt from": f"{manifest.service} {_months(manifest.train_months)}:"
        f" {sum(part.n_kept for part in manifest.data):,} rides of {sum(part.n_rows for part in manifest.data):,}",
        "validated on": _months(manifest.validate_months),
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
        "stored": _at(told.model.stored_at),
    }
    show_result(told.model.model_version, _escaped(rows), result, json_only=json_only)


def show_comparison(comparison: Comparison, *, json_only: bool) -> None:
    """Shows two versions side by side: A is the one named first."""
    if not json_only:
        pairs = [*comparison.facts, *comparison.metrics]
        _write_table(f"A: {comparison.a}\nB: {comparison.b}", ("", "A", "B"), map(_pair_row, pairs))
        if not comparison.is_same_validation:
            sys.stdout.write("They were validated on different months: their errors do not compare.\n")
        if comparison.slices:
            rows = (
                (f"{one.by} {one.name}", f"{one.n_rides:,}", _two(one.a_rmse_minutes), _two(one.b_rmse_minutes),
                 f"{one.off_minutes:+.2f}")
                for one in comparison.slices[:N_SLICES]
            )  # fmt: skip
            _write_table("Slices that differ most, RMSE in minutes", ("slice", "rides", "A", "B", "B - A"), rows)
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


def show_move(moved: Moved, address: str, *, json_only: bool) -> None:
    """Shows where a channel is after a command, and whether the command moved it."""
    now = moved.now
    rows = {
        "channel": moved.channel,
        "now": now.model_version + ("" if moved.has_moved else "   (it was there already: nothing has moved)"),
        "before": now.previous or "nothing",
        "moved by": f"{now.moved_by or 'somebody'}, {_moment(now.moved_at)}",
    }
    result = {
        "channel": moved.channel,
        "model_version": now.model_version,
        "previous": now.previous,
        "moved": moved.has_moved,
        "moved_at": now.moved_at,
        "moved_by": now.moved_by,
        "why": now.why,
    }
    show_result(address, _escaped(rows), result, json_only=json_only)


def show_history(lines: Sequence[Line], address: str, *, json_only: bool) -> None:
    """Shows a line a move, the oldest first."""
    if not json_only:
        rows = (
            (
                _moment(line.moved_at),
                line.channel,
                line.model_version,
                line.why or "unknown",
                line.moved_by or "unknown",
            )
            for line in lines
        )
        _write_table(f"Moves in {address}", ("moved", "channel", "to", "why", "by"), rows)
    show_result("", {}, {"bucket": address, "moves": [msgspec.to_builtins(line) for line in lines]}, json_only=True)


def show_reproduction(found: "Reproduction", *, json_only: bool) -> None:
    """Shows whether training again gave the same bytes, or else what differs, causes first."""
    if not json_only and found.is_identical:
        sys.stdout.write(f"{found.model_version}: identical, every byte of every file\n")
    elif not json_only:
        rows = ((one.fact, _text(one.stored), _text(one.again)) for one in found.differences)
        _write_table(f"{found.model_version} came out as {found.again_version}", ("", "stored", "trained again"), rows)
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


def _model_row(model: Model) -> tuple[str, ...]:
    manifest = model.manifest
    if manifest is None:
        return (model.model_version, "not readable", model.problem, "", "", ", ".join(model.channels))
    return (
        model.model_version,
        _months(manifest.train_months),
        _months(manifest.validate_months),
        _two(model.metric("rmse_minutes")),
        _two(model.metric("mae_minutes")),
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


def _pair_row(pair: Pair) -> tuple[str, ...]:
    return (pair.name, _text(pair.a), _text(pair.b))


def _beside_baseline(model: Model, metric: str) -> str:
    return f"{_two(model.metric(metric))}   (the course's model: {_two(model.metric(metric, 'validate_baseline'))})"


def _tested(told: Told) -> str:
    test = told.evaluation.test if told.evaluation else None
    if test is None:
        return "nothing"
    return f"{_months(test.months)}: RMSE {_two(test.model.rmse_minutes)}, MAE {_two(test.model.mae_minutes)} minutes"


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


def _write_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(
            column, justify="right" if column in _NUMERIC else "left", overflow="fold", no_wrap=column in _WHOLE
        )
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    Console(file=sys.stdout).print(table)


def _escaped(rows: dict[str, str]) -> dict[str, str]:
    return {name: escape(value) for name, value in rows.items()}


def _fields(value: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return fields


def _months(months: Sequence[str]) -> str:
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{round(value, 4):g}"
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _two(minutes: float | None) -> str:
    return "none" if minutes is None else f"{minutes:.2f}"


def _at(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "unknown"


def _moment(text: str) -> str:
    return _at(datetime.fromisoformat(text))
