"""Where a bucket and the registry that mirrors it tell different stories, a sentence each."""

from collections import Counter
from collections.abc import Iterator

from training.tracking.facts import MANIFEST_SHA256, MODEL_VERSION
from training.tracking.mirror import BucketView, can_be_alias, registered_numbers
from training.tracking.remedies import track_command
from training.tracking.store import Registry


def differences(bucket: BucketView, registry: Registry) -> list[str]:
    """Compares what is stored with what is registered, and channels with aliases: both ways, digests too.

    A channel that cannot be an alias is not looked for.

    >>> differences(BucketView("rides", {}, {}), Registry(aliases={"stable": 1}))
    ['alias stable is no channel: run `ridecast models track --all --bucket rides`, which takes it away']
    """
    return [*_not_registered(bucket, registry), *_registered(bucket, registry), *_aliases(bucket, registry)]


def _not_registered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    numbers = registered_numbers(registry)
    for version in sorted(bucket.versions.keys() - numbers.keys()):
        yield f"{version} is stored and not registered: run `{track_command(bucket.name, version)}`"


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
                f" run `{track_command(bucket.name, version)}`"
            )


def _aliases(bucket: BucketView, registry: Registry) -> Iterator[str]:
    versions = {one.number: one.tags.get(MODEL_VERSION) for one in registry.versions}
    track_all = f"run `{track_command(bucket.name)}`"
    for channel, version in sorted(bucket.channels.items()):
        if version not in bucket.versions:
            yield f"channel {channel} points at {version}, which is not stored: move it onto one that is"
        elif not can_be_alias(channel):
            continue
        elif channel not in registry.aliases:
            yield f"channel {channel} points at {version} and there is no such alias: {track_all}"
        elif (said := versions.get(registry.aliases[channel])) != version:
            yield f"channel {channel} points at {version} and the alias at {said or 'nothing'}: {track_all}"
    for alias in sorted(registry.aliases.keys() - bucket.channels.keys()):
        yield f"alias {alias} is no channel: {track_all}, which takes it away"
