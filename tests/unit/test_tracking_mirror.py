"""MLflow's registry as a mirror of a bucket: registering, catching up, following channels, and differences."""

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import MANIFEST
from tests.builders import small_bundle
from tests.fakes_tracking import GONE, FakeTracking
from training.errors import NoSuchVersionError, TrackingError
from training.model.bundle import write_bundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3
from training.registry.sources import Sources
from training.registry.versions import put_artifact
from training.tracking.environment import ENVIRONMENT, Environment, encode_environment
from training.tracking.facts import MANIFEST_SHA256, MODEL_VERSION
from training.tracking.mirror import (
    BUNDLE,
    BucketView,
    catch_up,
    differences,
    follow,
    follow_channels,
    register,
    registered_model,
    registry_tags,
    view_bucket,
)
from training.tracking.runs import track_run
from training.tracking.store import RegisteredVersion, Registry

BUCKET = "rides"
MODEL = registered_model(BUCKET)
COMMIT = "0ac80f1" * 5 + "0ac80"

# Registry -----------------------------------------------------------------------------------------------------------


def tags_of(seed: int = 1) -> dict[str, str]:
    return registry_tags(BUCKET, small_bundle(seed).model_version, small_bundle(seed).manifest_sha256)


def test_version_is_registered_once_and_wrong_tags_are_corrected() -> None:
    store, bundle = FakeTracking(), small_bundle()
    run_id = track_run(store, bundle)
    number = register(store, BUCKET, bundle, run_id)
    store.models[MODEL][number][MANIFEST_SHA256] = "wrong"
    assert register(store, BUCKET, bundle, run_id) == number
    assert store.models[MODEL] == {number: tags_of()}
    assert tags_of()[BUNDLE] == f"s3://{BUCKET}/models/{bundle.model_version}/"
    assert tags_of()[MANIFEST_SHA256] == bundle.manifest_sha256


def test_each_bucket_has_its_own_registered_model(tmp_path: Path) -> None:
    names = {registered_model(name) for name in ("a", "b", f"file:{tmp_path}/a", f"file:{tmp_path}/x/a", "file:a")}
    assert len(names) == 5


# From a bucket to its mirror ----------------------------------------------------------------------------------------


def bucket_with(folder: Path, *seeds: int, **pointed: int) -> Bucket:
    """Return a bucket with small bundles, and with channels that point at them."""
    bucket = Bucket(FolderS3(folder / "bucket"), BUCKET)
    for seed in seeds:
        store_bundle(bucket, small_bundle(seed))
    for channel, seed in pointed.items():
        move_channel(bucket, channel, small_bundle(seed).model_version, small_bundle(seed).manifest_sha256)
    return bucket


def mirrored(store: FakeTracking, bucket: Bucket, folder: Path) -> list[str]:
    """Do what `models sync --all` does, and return the remaining differences."""
    sources = Sources(bucket, folder / "bundles")
    for version in sources.all_versions():
        catch_up(store, sources, version)
    follow_channels(store, bucket)
    return differences(view_bucket(bucket), store.read_registry(MODEL))


def test_aliases_follow_the_channels(tmp_path: Path) -> None:
    store, bucket = FakeTracking(), bucket_with(tmp_path, 1, 2, stable=1, candidate=2)
    assert mirrored(store, bucket, tmp_path) == []
    assert set(store.aliases[MODEL]) == {"stable", "candidate"}
    assert set(store.aliases[MODEL].values()) == {1, 2}
    bucket_with(tmp_path, stable=2)
    store.aliases[MODEL]["champion"] = 1
    aliases = follow_channels(store, bucket)
    assert aliases == dict.fromkeys(["stable", "candidate"], small_bundle(2).model_version)
    assert store.aliases[MODEL].keys() == {"stable", "candidate"}
    assert len(set(store.aliases[MODEL].values())) == 1


def test_channel_onto_a_version_that_is_not_registered_has_no_alias(tmp_path: Path) -> None:
    store, bucket = FakeTracking(), bucket_with(tmp_path, 1, stable=1)
    assert follow_channels(store, bucket) == {}
    assert len(differences(view_bucket(bucket), store.read_registry(MODEL))) == 2


def test_channel_with_a_name_that_mlflow_reserves_has_no_alias_and_is_no_difference(tmp_path: Path) -> None:
    store, bucket = FakeTracking(), bucket_with(tmp_path, 1, latest=1, v2=1, stable=1)
    assert mirrored(store, bucket, tmp_path) == []
    assert store.aliases[MODEL].keys() == {"stable"}


@pytest.mark.parametrize("n_calls_before", [0, 1, 5, 7])
def test_error_of_a_mirror_names_the_command_that_catches_up(tmp_path: Path, n_calls_before: int) -> None:
    store, bucket = FakeTracking(), bucket_with(tmp_path, 1, stable=1)
    store.script = [*[None] * n_calls_before, GONE]
    with pytest.raises(TrackingError, match=rf"`ridecast models sync \S+ --bucket {BUCKET}`"):
        mirrored(store, bucket, tmp_path)


def test_artifacts_of_a_stored_version_are_tracked_too(tmp_path: Path) -> None:
    bucket, version = bucket_with(tmp_path, 1), small_bundle().model_version
    put_artifact(bucket, version, "report.html", b"the bucket's")
    left = write_bundle(small_bundle(), tmp_path / "bundles")
    (left / "report.html").write_bytes(b"the folder's")
    (left / ENVIRONMENT).write_bytes(
        encode_environment(Environment(git_commit=COMMIT, python="3.13.0", platform="Linux", packages={}))
    )
    store = FakeTracking()
    tracked = catch_up(store, Sources(bucket, tmp_path / "bundles"), version)
    run = store.runs[tracked.run_id]
    assert run.files["report.html"] == b"the bucket's"
    assert run.tags["mlflow.source.git.commit"] == COMMIT
    assert (run.files.keys() & {MANIFEST, "forest.npz"}, tracked.registered) == (set(), 1)


def test_version_in_the_folder_only_is_tracked_and_not_registered(tmp_path: Path) -> None:
    write_bundle(small_bundle(), tmp_path / "bundles")
    store, sources = FakeTracking(), Sources(bucket_with(tmp_path), tmp_path / "bundles")
    version = sources.resolve(small_bundle().model_version)
    assert catch_up(store, sources, version).registered is None
    assert (len(store.runs), store.models) == (1, {})


def test_unknown_version_is_an_error(tmp_path: Path) -> None:
    sources = Sources(bucket_with(tmp_path, 1), tmp_path / "bundles")
    with pytest.raises(NoSuchVersionError):
        sources.resolve("yellow")
    with pytest.raises(NoSuchVersionError):
        sources.read(small_bundle(2).model_version)


def test_all_versions_are_those_of_bucket_and_folder_that_load(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_bundle(small_bundle(seed), tmp_path / "bundles")
    (tmp_path / "bundles" / small_bundle(3).model_version / "forest.npz").write_bytes(b"cut short")
    sources = Sources(bucket_with(tmp_path, 1), tmp_path / "bundles")
    assert sources.all_versions() == (small_bundle(1).model_version, small_bundle(2).model_version)


def test_follow_does_nothing_where_mlflow_is_not_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    follow(bucket_with(tmp_path, 1, stable=1))
    assert not (tmp_path / "build").exists()


def test_failure_to_follow_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    follow(bucket_with(tmp_path, 1, stable=1))
    assert "mlflow is not installed: run `uv sync" in capsys.readouterr().err


# Differences --------------------------------------------------------------------------------------------------------

VERSIONS = st.sampled_from([f"green-2021-{month:02d}-{'0' * 12}" for month in range(1, 6)])
CHANNELS = st.sampled_from(["stable", "candidate", "canary"])


@st.composite
def bucket_views(draw: st.DrawFn) -> BucketView:
    """Draw consistent buckets: channels point at stored versions."""
    versions = draw(st.lists(VERSIONS, unique=True))
    pointing = st.dictionaries(CHANNELS, st.sampled_from(versions)) if versions else st.just({})
    return BucketView(BUCKET, {version: f"{number:064d}" for number, version in enumerate(versions)}, draw(pointing))


def mirror_of(bucket: BucketView) -> Registry:
    numbers = {version: number for number, version in enumerate(bucket.versions, 1)}
    versions = tuple(
        RegisteredVersion(numbers[version], registry_tags(BUCKET, version, digest))
        for version, digest in bucket.versions.items()
    )
    return Registry(versions, {channel: numbers[version] for channel, version in bucket.channels.items()})


@given(bucket_views())
def test_mirror_of_a_bucket_has_no_differences(bucket: BucketView) -> None:
    assert differences(bucket, mirror_of(bucket)) == []


@given(bucket_views(), bucket_views())
def test_mirror_of_another_bucket_has_differences(a: BucketView, b: BucketView) -> None:
    assert (differences(a, mirror_of(b)) == []) == (a == b)


V1, V2, V3 = (f"green-2021-0{number}-00000000000{number}" for number in (1, 2, 3))
TRACK = "run `ridecast models sync"
FROM = f"--bucket {BUCKET}`"
FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64
STORED = BucketView(BUCKET, {V1: FIRST, V2: SECOND}, {"stable": V1})
SAME = mirror_of(STORED)
FOREIGN, TWIN = RegisteredVersion(3, {}), RegisteredVersion(3, SAME.versions[0].tags)


@pytest.mark.parametrize(
    ("bucket", "registry", "sentence"),
    [
        (STORED, replace(SAME, versions=SAME.versions[:1]), f"{V2} is stored and not registered: {TRACK} {V2} {FROM}"),
        (replace(STORED, versions={V1: FIRST}), SAME, f"{V2} is registered version 2 and not stored: publish"),
        (
            replace(STORED, versions={V1: FIRST, V2: THIRD}),
            SAME,
            f"{V2} is stored with manifest digest {THIRD} and registered with {SECOND}: {TRACK} {V2} {FROM}",
        ),
        (
            replace(STORED, channels={"stable": V2}),
            SAME,
            f"channel stable points at {V2} and the alias at {V1}: {TRACK}",
        ),
        (STORED, replace(SAME, aliases={}), f"channel stable points at {V1} and there is no such alias: {TRACK} --all"),
        (replace(STORED, channels={}), SAME, f"alias stable is no channel: {TRACK} --all {FROM}, which deletes it"),
        (STORED, replace(SAME, versions=(*SAME.versions, FOREIGN)), f"registered version 3 has no tag {MODEL_VERSION}"),
        (STORED, replace(SAME, versions=(*SAME.versions, TWIN)), f"{V1} is registered version 3 and also 1: delete 3"),
        (
            replace(STORED, channels={"stable": V3}),
            SAME,
            f"channel stable points at {V3}, which is not stored: move it",
        ),
    ],
)
def test_each_difference_is_a_sentence_with_a_remedy(bucket: BucketView, registry: Registry, sentence: str) -> None:
    (found,) = differences(bucket, registry)
    assert found.startswith(sentence)


TAG_CHANGES = st.dictionaries(st.sampled_from([MANIFEST_SHA256, BUNDLE]), st.just("wrong"))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FakeTracking]:
    """Return a folder whose bucket has two versions and a channel, and its mirror."""
    folder, store = tmp_path_factory.mktemp("mirror"), FakeTracking()
    assert mirrored(store, bucket_with(folder, 1, 2, stable=1), folder) == []
    return folder, store


@given(st.data())
def test_sync_of_all_repairs_any_change_of_the_registry(mirror: tuple[Path, FakeTracking], data: Any) -> None:
    folder, store = mirror[0], deepcopy(mirror[1])
    versions, aliases = store.models[MODEL], store.aliases[MODEL]
    for number in data.draw(st.sets(st.sampled_from([1, 2]))):
        del versions[number]
        store.aliases[MODEL] = aliases = {alias: to for alias, to in aliases.items() if to != number}
    for number in versions:
        versions[number] |= data.draw(TAG_CHANGES)
        aliases |= data.draw(st.dictionaries(st.sampled_from(["stable", "mine"]), st.just(number)))
    assert mirrored(store, bucket_with(folder), folder) == []
