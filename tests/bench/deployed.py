"""Our package and the packaged comparator with the same model, on the local AWS, for AWS's own runtime."""

import pickle
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.aws import LocalAws
from infra.local.runtime.function import FunctionConfig
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import build_for_host
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

_MODEL_KEY = "comparator/model.pkl"
_COMPARATOR = Path(__file__).with_name("packaged_comparator.py")


@dataclass(frozen=True, slots=True)
class Deployed:
    """A stack with both models in its bucket.

    Attributes:
        package: Our built package.
        folder: For logs and the comparator's package; deleted at the end.
    """

    aws: LocalAws
    stack: DeployedStack
    package: Path
    folder: Path


@contextmanager
def deployed_models(bundle: ExportedBundle, fitted: HistGradientBoostingRegressor) -> Iterator[Deployed]:
    """Deploy the stack to a local AWS, and store our bundle in its channel and scikit-learn's model as a pickle.

    Raises:
        UserError: There is no emulator, or the package can't be built.
    """
    with LocalAws() as aws, TemporaryDirectory(prefix="bench-") as folder:
        stack, s3 = deploy(aws), aws.client("s3")
        bucket = Bucket(s3, stack.bucket)
        store_bundle(bucket, bundle)
        move_channel(bucket, stack.function.environment["MODEL_CHANNEL"], bundle.model_version, bundle.manifest_sha256)
        s3.put_object(Bucket=stack.bucket, Key=_MODEL_KEY, Body=pickle.dumps(fitted))
        yield Deployed(aws, stack, build_for_host().folder, Path(folder))


def comparator_of(ours: FunctionConfig, handler: str, folder: Path) -> FunctionConfig:
    """Return the packaged comparator, configured as our function.

    Args:
        ours: The function to compare with.
        handler: One of the comparator's functions.
        folder: The folder in which its package is made.
    """
    package = folder / "comparator"
    package.mkdir()
    shutil.copy(_COMPARATOR, package)
    return replace(
        ours.with_variables(MODEL_KEY=_MODEL_KEY),
        package=package,
        handler=f"{_COMPARATOR.stem}.{handler}",
        site_packages=[Path(sysconfig.get_path("purelib"))],
    )
