"""Training again from a manifest: the same data, parameters and code give the same bytes, or this says what differs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from lambda_function.core.bundle import MANIFEST, Manifest
from training.data.load import rides_of
from training.data.months import Month, Service
from training.model.bundle import ExportedBundle
from training.workflows.pipeline import train

_CAUSES = ("data", "software", "parameters", "train_months", "validate_months")
"""What goes into a training run, as a manifest tells it."""

TrainAgain = Callable[[Manifest], ExportedBundle]
"""Trains as a manifest says and returns the bundle."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact of two manifests that is not the same; None where one has no such fact.

    `fact` is a path, as in ``data.2021-01.sha256`` or ``software.numpy``.
    """

    fact: str
    stored: Any
    again: Any


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How training again went: `differences` is empty where every file has the same bytes."""

    model_version: str
    again_version: str
    differences: tuple[Difference, ...]

    @property
    def is_identical(self) -> bool:
        """Whether the same bytes came out."""
        return not self.differences

    @property
    def is_code(self) -> bool:
        """Whether all that went in is the same, and yet something else came out: so the code has changed."""
        return not self.is_identical and not any(_kind(one.fact) in _CAUSES for one in self.differences)


def reproduce(stored: ExportedBundle, train_again: TrainAgain) -> Reproduction:
    """Trains again as a bundle's manifest says, and compares: what went in first, then what came out.

    Raises:
        UserError: The months cannot be had, or no bundle can be made of them.
    """
    again = train_again(stored.model.manifest)
    found = differences(stored.model.manifest, again.model.manifest)
    if not found and stored.manifest_sha256 != again.manifest_sha256:  # it says the same in other bytes
        found = (Difference(f"files.{MANIFEST}.sha256", stored.manifest_sha256, again.manifest_sha256),)
    return Reproduction(stored.model_version, again.model_version, found)


def train_as_before(on_step: Callable[[str], None] = lambda _: None) -> TrainAgain:
    """Returns what trains on the months of a manifest, had from where they were had then.

    Raises:
        UserError: When it is called: the months cannot be had, or no bundle can be made of them.
    """

    def train_again(manifest: Manifest) -> ExportedBundle:
        on_step("loading rides")
        load, _ = rides_of(manifest)
        train_rides, validate_rides = (
            load(_months(months)) for months in (manifest.train_months, manifest.validate_months)
        )
        service = cast("Service", manifest.service)
        return train(service, train_rides, validate_rides, dict(manifest.parameters), on_step).bundle

    return train_again


def _months(months: Sequence[str]) -> list[Month]:
    return [Month.parse(month) for month in months]


def differences(stored: Manifest, again: Manifest) -> tuple[Difference, ...]:
    """Compares two manifests fact by fact: data by month, software and parameters, then figures, files and version."""
    before, after = _facts(stored), _facts(again)
    return tuple(
        Difference(fact, before.get(fact), after.get(fact))
        for fact in sorted(before.keys() | after.keys(), key=_order)
        if before.get(fact) != after.get(fact)
    )


def _order(fact: str) -> tuple[int, str]:
    """Sorts what may be the cause of other differences before those."""
    kind = _kind(fact)
    return (_CAUSES.index(kind) if kind in _CAUSES else len(_CAUSES), fact)


def _kind(fact: str) -> str:
    return fact.partition(".")[0]


def _facts(manifest: Manifest) -> dict[str, Any]:
    document = msgspec.to_builtins(manifest)
    document["data"] = {part["month"]: part for part in document["data"]}
    return dict(_leaves(document))


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Walks nested mappings: path and value of each leaf; a list is a leaf."""
    if not isinstance(node, Mapping):
        yield path, node
        return
    for name, value in node.items():
        yield from _leaves(value, f"{path}.{name}" if path else str(name))
