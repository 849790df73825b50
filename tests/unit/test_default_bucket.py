"""Models are left in the default bucket, and take nobody's place in the channel."""

from pathlib import Path

from tests.builders import small_bundle
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3
from training.registry.versions import read_channels, stored_versions
from training.workflows.default_bucket import leave_model


def test_first_model_serves_the_channel_and_a_later_one_is_stored_beside_it(
    bundle: ExportedBundle, tmp_path: Path
) -> None:
    later = small_bundle(2)
    assert [leave_model(one, tmp_path) for one in (bundle, bundle, later)] == ["", "", ""]

    bucket = Bucket(FolderS3(tmp_path / "bucket"), "file:bucket")
    assert {name: one.model_version for name, one in read_channels(bucket).items()} == {"stable": bundle.model_version}
    assert set(stored_versions(bucket)) == {bundle.model_version, later.model_version}


def test_bucket_that_cannot_be_written_is_a_sentence_and_no_failure(bundle: ExportedBundle, tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("in the way")
    assert leave_model(bundle, tmp_path).startswith(f"the model could not be left in {tmp_path / 'bucket'}: ")
