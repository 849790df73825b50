"""The channel that a new model is for, and the gate against the model in it; without pyarrow."""

from dataclasses import dataclass

import msgspec

from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.errors import BundleError
from training.data.rides import Rides
from training.errors import NoSuchVersionError
from training.evaluation.gate import GateReport, run_gate
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.signing import Signer
from training.registry.versions import read_stored


@dataclass(frozen=True, slots=True)
class Target:
    """The channel of a bucket to release into, the signer of stored versions, if any, and the activation delay."""

    bucket: Bucket
    channel: str
    signer: Signer | None = None
    activation_delay_s: float = ACTIVATION_DELAY_S
    labelled: Bucket | None = None  # the bucket of labelled rides, if it is another one

    def holds(self) -> str | None:
        """Return the channel's newest version; None if it is empty."""
        return read_channel(self.bucket, self.channel).model_version

    def champion(self) -> ExportedBundle | None:
        """Return the channel's model; None if the channel is empty, or if this code cannot load the model.

        Raises:
            BucketError: S3 failed.
        """
        version = self.holds()
        try:
            return read_stored(self.bucket, version) if version else None
        except (BundleError, NoSuchVersionError):
            return None

    def judge(self, candidate: ExportedBundle, rides: Rides, train_rides: Rides) -> GateReport:
        """Compare a candidate with the champion, on rides that neither has used.

        If the champion cannot be loaded, for example after a change of the features, the comparison is with the
        baseline: otherwise the channel would be stuck with a version that no new deployment can serve.

        Raises:
            BucketError: S3 failed.
        """
        held, champion = self.holds(), self.champion()
        report = run_gate(candidate, champion, rides, train_rides, channel=self.channel)
        return msgspec.structs.replace(report, against=held)
