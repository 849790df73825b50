"""Training: TLC months in, a published model bundle out. In Python: `from training import load_model`."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.inference.load import load_model

__all__ = ["load_model"]

# Before scikit-learn loads OpenMP: on cores shared with other work, its threads else spin while they wait for each
# other, and a fit of 2 s takes 30.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """Import `load_model` when it is first used: every function imports this package, and none of them needs it."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from training.inference.load import load_model as load  # noqa: PLC0415

    return load
