"""Two models side by side, on a terminal and in JSON: two versions, or one and what training again made of it."""

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from infra.console import show_result
from infra.models.facts import Comparison, Pair, SlicePair
from infra.table import minutes_text, value_text, write_table

if TYPE_CHECKING:  # it brings scikit-learn, which a comparison does not wait for
    from training.reproduce import Reproduction

N_SLICES = 8
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
