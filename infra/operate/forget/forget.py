"""Delete a ride from the bucket: from the archive, the labelled rides and the rejects.

An object of several rides is written again without this one: under the name that its new content gives, or in its
place. Then the version that held the ride is deleted for good, and so is every older one that holds it. An interruption
leaves both objects: readers leave out what they read twice, and the next run goes on. A run that finds nothing changes
nothing.

Failed batches are Lambda's own objects, and a redrive needs them whole: they are only found.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import NamedTuple

from infra.operate.forget.without import STORES, Rest, RideSearch, UnreadableError
from infra.operate.redrive.selection import FAILURES
from training.errors import UserError, bucket_address
from training.registry.bucket import Bucket, ObjectVersion

_HOUR = re.compile(r"/(dt=\d{4}-\d\d-\d\d/hh=\d\d)/")


@dataclass(slots=True)
class ForgetReport:
    """What was found, and deleted unless it was a dry run."""

    n_searched: int = 0  # objects
    n_objects: int = 0  # that held the ride
    n_old_versions: int = 0  # older versions of objects that held the ride
    removed: Counter[str] = field(default_factory=Counter)  # records by the folder of their objects
    unreadable: dict[str, str] = field(default_factory=dict)  # problems by the key of the object
    failed_batches: list[str] = field(default_factory=list)  # that hold the ride, and are left


class _Found(NamedTuple):
    """What the versions of one object hold."""

    old: tuple[ObjectVersion, ...] = ()  # versions that held the ride
    latest: ObjectVersion | None = None  # the object, if it holds the ride
    etag: str = ""
    rest: Rest = Rest("", b"", 0)  # of the object
    problem: tuple[str, str] | None = None


@dataclass(slots=True)
class Forget:
    """One run. Its report is exact to the last object even if the run ends in an exception."""

    bucket: Bucket
    search: RideSearch
    is_dry_run: bool = False
    report: ForgetReport = field(default_factory=ForgetReport)

    def objects(self, first: str | None = None, last: str | None = None) -> list[list[ObjectVersion]]:
        """List the objects to search, each with all its versions.

        Args:
            first: The first hour, as in ``dt=2026-08-01/hh=09``; None for all. Rejects are searched in any case.
            last: The last hour.
        """
        versions = (one for prefix in STORES for one in self.bucket.versions(prefix))
        by_key = (list(group) for _, group in groupby(versions, lambda one: one.key))
        return [group for group in by_key if _is_between(group[0].key, first, last)]

    def run(self, objects: Iterable[list[ObjectVersion]]) -> ForgetReport:
        """Search objects, and delete the ride from them.

        Raises:
            UserError: Somebody else writes the same object.
        """
        for found in self.bucket.each(self._find, objects):
            self.report.n_searched += 1
            if found.problem:
                self.report.unreadable.update([found.problem])
            if not self.is_dry_run:
                self._delete(found)
            self._count(found)
        self._search_failed_batches()
        return self.report

    def _search_failed_batches(self) -> None:
        old = (one for one in self.bucket.versions(FAILURES.prefix) if not one.is_latest)
        stored_old = filter(None, self.bucket.each(self.bucket.read_version, old))
        from_old = (FAILURES.decode(stored.key, stored.body) for stored in stored_old)
        for one in chain(FAILURES.read(self.bucket, FAILURES.keys(self.bucket)), from_old):
            if one.problem:
                self.report.unreadable[one.key] = one.problem
            is_held = any(self.search.holds(record.partition_key, record.data) for record in one.records)
            if is_held and one.key not in self.report.failed_batches:
                self.report.failed_batches.append(one.key)

    def _find(self, versions: list[ObjectVersion]) -> _Found:
        """Read the versions of one object."""
        found = _Found()
        for version in versions:
            stored = self.bucket.read_version(version)
            if stored is None:
                continue
            without = STORES[version.key[: version.key.index("/") + 1]]
            try:
                rest = without(self.search, version.key, stored.body)
            except UnreadableError as error:
                found = found._replace(problem=(version.key, str(error)))
                continue
            if rest is not None and version.is_latest:
                found = found._replace(latest=version, etag=stored.etag, rest=rest)
            elif rest is not None:
                found = found._replace(old=(*found.old, version))
        return found

    def _delete(self, found: _Found) -> None:
        # The older ones first: once the newest version is deleted, the one before it is the object.
        for version in found.old:
            self.bucket.delete_version(version)
        if found.latest is None:
            return
        key, rest = found.latest.key, found.rest
        if rest.key == key and rest.body:
            if self.bucket.replace(key, rest.body, found.etag) is None:
                raise UserError(
                    f"{bucket_address(self.bucket.name)}/{key} was written by somebody else", "run it again"
                )
            # Without versions, the write has taken the place of the version that held the ride.
            left = (one for one in self.bucket.versions(key) if one.key == key and not one.is_latest)
            if any(one.version_id == found.latest.version_id for one in left):
                self.bucket.delete_version(found.latest)
            return
        if rest.body:
            self.bucket.write_once(rest.key, rest.body)
        self.bucket.delete_version(found.latest)

    def _count(self, found: _Found) -> None:
        self.report.n_old_versions += len(found.old)
        if found.latest is not None:
            self.report.n_objects += 1
            self.report.removed[_folder(found.latest.key)] += found.rest.n_removed


def _folder(key: str) -> str:
    """Return the part of a key before its hour or shard.

    >>> _folder("archive/rides/dt=2026-08-01/hh=09/x"), _folder("rejects/ride-events/x")
    ('archive/rides', 'rejects/ride-events')
    """
    return _HOUR.split(key)[0] if _HOUR.search(key) else "/".join(key.split("/")[:2])


def _is_between(key: str, first: str | None, last: str | None) -> bool:
    found = _HOUR.search(key)
    return found is None or ((first is None or first <= found[1]) and (last is None or found[1] <= last))
