"""Skew: predict an hour's rides again with the versions that served them, and compare the bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from zlib import crc32

from lambda_function.aws.signature import SIGNATURE, check_signature
from lambda_function.core.bundle import MANIFEST, ModelBundle
from lambda_function.core.calibration import split_version
from lambda_function.core.processor import RideBatch
from lambda_function.errors import BundleError
from training.errors import NoSuchVersionError
from training.registry.bucket import Bucket
from training.registry.signing import Signer
from training.registry.versions import read_calibration, read_file, read_stored

_CRC_VALUES = 2**32
_N_CALIBRATED = 4  # calibrated models kept in memory; each takes 0.4 MB beside its model

digest64 = hash
"""Return 64 bits of a prediction's bytes. They are compared within one process and stored nowhere: Python's own hash of
bytes, SipHash with the process's key, takes a fifth of the time of blake2b."""

Load = Callable[[str], ModelBundle]
"""Returns the model of a served version, or raises BundleError or NoSuchVersionError."""


class Served(Protocol):
    """What the audit needs of an archived prediction: its version, and `digest64` of its bytes."""

    @property
    def model_version(self) -> str:
        """The served version."""

    @property
    def digest(self) -> int:
        """`digest64` of the bytes."""


class Predicted(NamedTuple):
    """An archived prediction, as little of it as the audit needs."""

    model_version: str
    digest: int


def stored_models(bucket: Bucket, signer: Signer | None = None) -> Load:
    """Return a function that loads a served version from the bucket, checked as the predicting function checks it.

    With a signer, the model version must have its key's signature. The returned function raises BucketError if S3 fails
    and KmsError if KMS does: then nothing is known about the version.
    """
    models: dict[str, ModelBundle] = {}  # by model version: an hour may have several calibrations of one
    calibrated: dict[str, ModelBundle] = {}  # the newest few, by served version: a day has many hours

    def load(served_version: str) -> ModelBundle:
        model_version, as_of = split_version(served_version)
        if model_version not in models:
            models[model_version] = _load_model(bucket, model_version, signer)
        if as_of is None:
            return models[model_version]
        if served_version not in calibrated:
            if len(calibrated) >= _N_CALIBRATED:
                calibrated.pop(next(iter(calibrated)))
            calibration = read_calibration(bucket, model_version, as_of)
            calibrated[served_version] = models[model_version].calibrated(calibration)
        return calibrated[served_version]

    return load


def _load_model(bucket: Bucket, model_version: str, signer: Signer | None) -> ModelBundle:
    bundle = read_stored(bucket, model_version)
    if signer:
        signature = read_file(bucket, model_version, SIGNATURE)
        check_signature(signer.kms, signer.key, model_version, bundle.files[MANIFEST], signature)
    return bundle.model


def sample_share(n_rides: int, max_recomputed: int) -> float:
    """Return the share of rides to predict again, so that they are about `max_recomputed` at most.

    >>> sample_share(500, 1000), sample_share(4000, 1000)
    (1.0, 0.25)
    """
    return min(1.0, max_recomputed / n_rides) if n_rides else 1.0


@dataclass(slots=True)
class SkewCheck:
    """Compares predictions with what their versions predict now. Memory does not grow with the rides that agree.

    Attributes:
        load: Loads a served version; each is loaded once.
        share: Of the rides that are predicted again. The choice depends on the ride's id alone.
        skewed: The ids of the rides whose prediction differs, or that are rejected now.
        n_recomputed: Predictions compared.
        n_unrecomputed: Predictions that were chosen, but their version cannot be loaded.
        problems: Why, by version.
    """

    load: Load
    share: float = 1.0
    skewed: set[str] = field(default_factory=set)
    n_recomputed: int = 0
    n_unrecomputed: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    _models: dict[str, ModelBundle | None] = field(default_factory=dict)

    def check(self, batch: RideBatch, predicted: Mapping[str, Served]) -> None:
        """Compare the rides of a batch that have a prediction; `predicted` has the predictions by id.

        Raises:
            BucketError: S3 fails.
            KmsError: KMS fails.
        """
        rejected_now = [reject.event_id for _, reject in batch.rejects if reject.event_id in predicted]
        self.skewed.update(rejected_now)
        self.n_recomputed += len(rejected_now)
        rows_of: dict[str, list[int]] = {}
        for row, record in enumerate(batch.records):
            found = predicted.get(record.event_id)
            if found is not None and self._is_chosen(record.event_id):
                rows_of.setdefault(found.model_version, []).append(row)
        for model_version, rows in rows_of.items():
            self._compare(model_version, batch if len(rows) == len(batch.records) else batch.take(rows), predicted)

    def take_back(self, predicted: Mapping[str, Served]) -> None:
        """Take back the comparison of predictions, by id: others stand for their rides."""
        self.skewed.difference_update(predicted)
        for event_id, one in predicted.items():
            if self._is_chosen(event_id):
                is_loaded = self._models.get(one.model_version) is not None
                self.n_recomputed -= is_loaded
                self.n_unrecomputed -= not is_loaded

    def _is_chosen(self, event_id: str) -> bool:
        return self.share >= 1.0 or crc32(event_id.encode()) < self.share * _CRC_VALUES

    def _compare(self, model_version: str, batch: RideBatch, predicted: Mapping[str, Served]) -> None:
        """Compare rides that have a prediction of this version."""
        model = self._model(model_version)
        if model is None:
            self.n_unrecomputed += len(batch.records)
            return
        again = batch.predict(model)
        for event_id, (_, data) in zip(again.ids, again.entries, strict=True):
            if predicted[event_id].digest != digest64(data):
                self.skewed.add(event_id)
        self.n_recomputed += len(batch.records)
        if len(again.ids) < len(batch.records):  # predictions that do not fit a record
            self.skewed.update({record.event_id for record in batch.records}.difference(again.ids))

    def _model(self, model_version: str) -> ModelBundle | None:
        if model_version not in self._models:
            try:
                self._models[model_version] = self.load(model_version)
            except (BundleError, NoSuchVersionError) as error:
                self._models[model_version] = None
                self.problems[model_version] = str(error)
        return self._models[model_version]
