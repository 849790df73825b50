"""Train a version again from its manifest: the same data, parameters and code must give the same bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from lambda_function.core.bundle import MANIFEST, Manifest
from training.data.months import Service, parse_days
from training.model.bundle import REFERENCE, ExportedBundle
from training.registry.bucket import Bucket
from training.registry.catalog import leaves
from training.workflows.pipeline import train
from training.workflows.ride_source import source_of

_INPUTS = ("data", "software", "parameters", "train_months", "validate_months")
"""The parts of a manifest that are inputs of a training run."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that differs between two manifests; a value is None if its manifest lacks the fact.

    `fact` is a path, as in ``data.2021-01.sha256`` or ``software.numpy``.
    """

    fact: str
    stored: Any
    again: Any


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of training again: `differences` is empty if every file has the same bytes."""

    model_version: str
    again_version: str
    differences: tuple[Difference, ...]

    @property
    def is_identical(self) -> bool:
        """Whether the bytes are the same."""
        return not self.differences

    @property
    def is_code(self) -> bool:
        """Whether the code must have changed: the result differs, but no input does."""
        return not self.is_identical and not any(one.fact.partition(".")[0] in _INPUTS for one in self.differences)


def reproduce(stored: ExportedBundle, train_again: Callable[[Manifest], ExportedBundle]) -> Reproduction:
    """Train again from a bundle's manifest, and compare: inputs first, then results.

    Raises:
        UserError: The months are not available, or no bundle can be trained on them.
    """
    again = train_again(stored.model.manifest)
    found = differences(stored.model.manifest, again.model.manifest)
    if not found and stored.manifest_sha256 != again.manifest_sha256:  # equal values in other bytes
        found = (Difference(f"files.{MANIFEST}.sha256", stored.manifest_sha256, again.manifest_sha256),)
    return Reproduction(stored.model_version, again.model_version, found)


def train_as_before(labelled: Bucket, on_step: Callable[[str], None]) -> Callable[[Manifest], ExportedBundle]:
    """Return a function that trains on the months of a manifest, with rides from the same source as before.

    A bundle of an earlier version has no reference for monitoring: it is trained again without one. `labelled` is the
    bucket of labelled rides.
    """

    def train_again(manifest: Manifest) -> ExportedBundle:
        on_step("loading rides")
        load = source_of(manifest, labelled).load
        train_rides, validate_rides = (
            load(parse_days(",".join(months))) for months in (manifest.train_months, manifest.validate_months)
        )
        service = cast("Service", manifest.service)
        has_reference = REFERENCE in manifest.files
        parameters = dict(manifest.parameters)
        return train(service, train_rides, validate_rides, parameters, on_step, has_reference=has_reference).bundle

    return train_again


def differences(stored: Manifest, again: Manifest) -> tuple[Difference, ...]:
    """Compare two manifests fact by fact: inputs first, because they cause the other differences."""
    before, after = _facts(stored), _facts(again)
    return tuple(
        Difference(fact, before.get(fact), after.get(fact))
        for fact in sorted(before.keys() | after.keys(), key=_order)
        if before.get(fact) != after.get(fact)
    )


def _order(fact: str) -> tuple[int, str]:
    part = fact.partition(".")[0]
    return (_INPUTS.index(part) if part in _INPUTS else len(_INPUTS), fact)


def _facts(manifest: Manifest) -> dict[str, Any]:
    document = msgspec.to_builtins(manifest)
    document["data"] = {part["month"]: part for part in document["data"]}
    return dict(leaves(document))
