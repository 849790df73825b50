"""A bundle as a model of MLflow's flavor `python_function`: the files beside the bundle's that make it one, its loader.

MLflow imports this module by its name and gives it the bundle's folder: nothing is pickled. This project must be
installed where the model is loaded, and mlflow need not be where it is written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lambda_function.core.bundle import GOLDEN, decode_golden_rides
from lambda_function.core.events import decode_ride_event
from training.inference.frames import DISTANCE_COLUMN, PICKUP_COLUMNS, ZONE_COLUMNS
from training.inference.load import LoadedModel, read_model
from training.model.bundle import ExportedBundle

if TYPE_CHECKING:
    import pandas as pd

ML_MODEL = "MLmodel"
"""The file by which MLflow recognizes a model."""

_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
_N_EXAMPLES = 2
_ERRORS = {"errors": "raise"}


class PyfuncModel:
    """A model with the method that MLflow calls."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def predict(self, model_input: "pd.DataFrame", params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Return `LoadedModel.predict` of a frame; the parameter `errors` is passed on."""
        return self._loaded.predict(model_input, **{**_ERRORS, **(params or {})})


def pyfunc_files(bundle: ExportedBundle) -> dict[str, bytes]:
    """Return the files that make a bundle's folder a model of MLflow; the same bundle gives the same bytes."""
    example = _example(bundle)
    return {
        ML_MODEL: _format(_description(bundle)),  # MLflow reads YAML, and JSON is YAML
        _EXAMPLE: _format({"inputs": example, "params": _ERRORS}),
        _SERVING_EXAMPLE: _format({"dataframe_split": example, "params": _ERRORS}),
    }


def _description(bundle: ExportedBundle) -> dict[str, Any]:
    inputs = [
        # Any: MLflow refuses zones that pandas holds as floats, and this project's decoder reads them.
        *({"type": "any", "name": name, "required": True} for name in (*ZONE_COLUMNS, DISTANCE_COLUMN)),
        *({"type": "any", "name": name, "required": False} for name in PICKUP_COLUMNS),
    ]
    outputs = [
        *({"type": "double", "name": name, "required": True} for name in ("minutes", "low", "high")),
        {"type": "string", "name": "version", "required": True},
    ]
    params = [{"name": name, "type": "string", "default": value, "shape": None} for name, value in _ERRORS.items()]
    schemas = {"inputs": inputs, "outputs": outputs, "params": params}
    return {
        "flavors": {
            "python_function": {
                "loader_module": __name__,
                "python_version": bundle.model.manifest.software.get("python", "3.13"),
            }
        },
        "signature": {name: msgspec.json.encode(schema).decode() for name, schema in schemas.items()},
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE,
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "dataframe",
            "pandas_orient": "split",
            "params": "true",
        },
        "metadata": {"ridecast.model_version": bundle.model_version},
    }


def _example(bundle: ExportedBundle) -> dict[str, Any]:
    """Return golden rides as MLflow writes a frame."""
    golden = decode_golden_rides(bundle.files[GOLDEN])[:_N_EXAMPLES]
    rides = [decode_ride_event(bytes(one.event)).ride for one in golden]
    return {
        "columns": [*ZONE_COLUMNS, DISTANCE_COLUMN, PICKUP_COLUMNS[0]],
        "data": [[one.pickup_zone, one.dropoff_zone, one.trip_distance, one.pickup_datetime] for one in rides],
    }


def _format(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _load_pyfunc(path: str) -> PyfuncModel:
    """Load the model; MLflow calls this with the folder that has `MLmodel`."""
    return PyfuncModel(read_model(Path(path)))
