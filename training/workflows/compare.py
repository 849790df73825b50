"""Compare two stored models on the latest month that neither has seen."""

from collections.abc import Sequence

from lambda_function.core.bundle import Manifest
from training.data.months import Month, met_months
from training.errors import UserError
from training.evaluation.compare import PairedResult, compare_models
from training.evaluation.gate import unseen_month
from training.evaluation.gate_rules import used_months
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.workflows.ride_source import source_of


def compare_on_unseen(a: ExportedBundle, b: ExportedBundle, labelled: Bucket, test: str | None = None) -> PairedResult:
    """Compare two models on months that neither has seen: those of `test`, or else the latest local one.

    `labelled` is the bucket of labelled rides, for models that learnt from such.

    Raises:
        UserError: The models are for different services, one has seen the months, or no local month is new to both. Or
            rides are not available.
    """
    first, second = a.model.manifest, b.model.manifest
    if first.service != second.service:
        raise UserError(
            f"{a.model_version} is for {first.service} taxis and {b.model_version} for {second.service} ones",
            "compare models of one service",
        )
    source = source_of(second, labelled)
    months: Sequence[Month] = source.parse(test) if test else ()
    for manifest in (first, second):
        met = met_months(months, used_months(manifest))
        if met:
            raise UserError(f"{manifest.model_version} has met {met[0]}", _hint(first, second))
    if not months:
        found = unseen_month(second, first, source.local_months)
        if found is None:
            raise UserError("no local month is new to both models", _hint(first, second))
        months = (found,)
    return compare_models(a.model, b.model, source.load(months))


def _hint(first: Manifest, second: Manifest) -> str:
    last = max(month.whole for manifest in (first, second) for month in used_months(manifest))
    return f"add {second.service} {last.next()} or a later month to the folder of TLC_DATA_DIR, or name one with --test"
