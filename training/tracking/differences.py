"""Where a bucket and the registry that mirrors it tell different stories, a sentence each."""

from collections import Counter
from collections.abc import Iterator

from training.tracking.facts import MANIFEST_SHA256, MODEL_VERSION
from training.tracking.mirror import BucketView, registered_numbers
from training.tracking.store import Registry

TRACK_ALL = "run `ridecast models track --all`"


def differences(bucket: BucketView, registry: Registry) -> list[str]:
    """Compares what is stored with what is registered, and channels with aliases: both ways, digests too.

    >>> differences(BucketView({"green-2021-01-3f2a9c1d0b7e": "ab"}, {}), Registry())
    ['green-2021-01-3f2a9c1d0b7e is stored and not registered: run `ridecast models track green-2021-01-3f2a9c1d0b7e`']
    """
    return [*_not_registered(bucket, registry), *_registered(bucket, registry), *_aliases(bucket, registry)]


def _not_registered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    numbers = registered_numbers(registry)
    for version in sorted(bucket.versions.keys() - numbers.keys()):
        yield f"{version} is stored and not registered: run `ridecast models track {version}`"


def _registered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    seen = Counter(one.tags.get(MODEL_VERSION) for one in registry.versions)
    first = registered_numbers(registry)
    for one in registry.versions:
        version, number = one.tags.get(MODEL_VERSION), f"registered version {one.number}"
        if version is None:
            yield f"{number} has no tag {MODEL_VERSION}, so it is none of the bucket's: delete it in MLflow"
        elif version not in bucket.versions:
            yield f"{version} is {number} and not stored: publish its bundle again, or delete it in MLflow"
        elif seen[version] > 1 and first[version] != one.number:
            yield f"{version} is {number} and {first[version]} too: delete {one.number} in MLflow"
        elif one.tags.get(MANIFEST_SHA256) != bucket.versions[version]:
            said = one.tags.get(MANIFEST_SHA256, "none")
            yield (
                f"{version} is stored with manifest digest {bucket.versions[version]} and registered with {said}:"
                f" run `ridecast models track {version}`"
            )


def _aliases(bucket: BucketView, registry: Registry) -> Iterator[str]:
    versions = {one.number: one.tags.get(MODEL_VERSION) for one in registry.versions}
    for channel, version in sorted(bucket.channels.items()):
        if version not in bucket.versions:
            yield f"channel {channel} points at {version}, which is not stored: move it onto one that is"
        elif channel not in registry.aliases:
            yield f"channel {channel} points at {version} and there is no such alias: {TRACK_ALL}"
        elif (said := versions.get(registry.aliases[channel])) != version:
            yield f"channel {channel} points at {version} and the alias at {said or 'nothing'}: {TRACK_ALL}"
    for alias in sorted(registry.aliases.keys() - bucket.channels.keys()):
        yield f"alias {alias} is no channel: {TRACK_ALL}, which takes it away"
