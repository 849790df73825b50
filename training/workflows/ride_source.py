"""Where the rides of a run come from: TLC's months, made-up months, or the labelled rides of a bucket."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pyarrow as pa

from lambda_function.core.bundle import Manifest
from training.data.labelled import FOLDER, keys_from
from training.data.labelled_file import PickupSpan, pickup_span, read_labelled, rows_between
from training.data.labelled_rides import is_labelled, rides_of_month
from training.data.load import synthetic_months, tlc_months
from training.data.months import Month, Service, default_data_dir, local_months, parse_days, parse_months
from training.data.rides import Load, Rides, concat_rides
from training.data.synthetic import SOURCE_NAME
from training.data.tlc_file import Timestamps
from training.errors import UserError
from training.registry.bucket import Bucket


@dataclass(frozen=True, slots=True)
class RideSource:
    """A loader of rides, the months that it gets without a download, and how to write months."""

    load: Load
    local_months: tuple[Month, ...] = ()
    parse: Callable[[str], tuple[Month, ...]] = parse_months

    def check_gate_months(self, months: Sequence[Month]) -> None:
        """Raise UserError if the gate has no months to judge on: they are not named, and labelled rides have none."""
        if self.parse is parse_days and not months:
            raise UserError("no days are named for the gate to judge on", "give later days with --test")


def tlc_source(service: Service, timestamps: Timestamps | None = None) -> RideSource:
    """Return the source of a service's rides as TLC publishes them; `timestamps` as in `load_rides`."""
    return RideSource(tlc_months(service, timestamps), local_months(service, default_data_dir()))


def synthetic_source(n_rides_a_month: int) -> RideSource:
    """Return the source of made-up rides. No month is local, because they are endless."""
    return RideSource(synthetic_months(n_rides_a_month))


def labelled_source(bucket: Bucket) -> RideSource:
    """Return the source of a bucket's labelled rides. No day is local: the user names the days for the gate."""
    return RideSource(_LabelledRides(bucket), parse=parse_days)


def source_of(manifest: Manifest, labelled: Bucket, timestamps: Timestamps | None = None) -> RideSource:
    """Return the source of rides like those of a model; `labelled` is the bucket of labelled rides."""
    if is_labelled(manifest):
        return labelled_source(labelled)
    if any(part.file == SOURCE_NAME for part in manifest.data):
        return synthetic_source(manifest.data[0].n_rows)
    return tlc_source(cast("Service", manifest.service), timestamps)


@dataclass(slots=True)
class _LabelledRides:
    """Loads a bucket's labelled rides by pickup. Files are by arrival, so it remembers which pickups a file has."""

    bucket: Bucket
    _spans: dict[str, PickupSpan] = field(default_factory=dict)

    def __call__(self, months: Sequence[Month]) -> Rides:
        """Load the rides with a pickup in these months, which do not overlap, ascending.

        Raises:
            UserError: There is no labelled ride in a month, or a file is not one of labelled rides.
            BucketError: S3 failed.
        """
        months = sorted(months)
        tables = list(self._tables(months[0], months[-1]))
        if not tables:
            raise self._no_rides(months[0], "no file with such pickups")
        rows = rows_between(tables, months[0], months[-1])
        del tables
        return concat_rides(self._checked(rides_of_month(rows, month)) for month in months)

    def _tables(self, first: Month, last: Month) -> Iterator[pa.Table]:
        for stored in self.bucket.read_all(self._keys(first, last)):
            table = read_labelled(stored.body, stored.key)
            span = self._spans[stored.key] = pickup_span(table)
            if span.meets(first, last):
                yield table

    def _keys(self, first: Month, last: Month) -> Iterator[str]:
        """List the files that may have a ride of these months: a late event may arrive at any time after its pickup."""
        for key in keys_from(self.bucket.keys(f"{FOLDER}/"), first.first_date):
            span = self._spans.get(key)
            if span is None or span.meets(first, last):
                yield key

    def _checked(self, rides: Rides) -> Rides:
        (source,) = rides.sources
        if len(rides):
            return rides
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in source.dropped.items() if n)
        problem = f"all of its {source.n_rows:,} rows were dropped: {reasons}" if source.n_rows else "it has no rows"
        raise self._no_rides(source.month, problem)

    def _no_rides(self, month: Month, problem: str) -> UserError:
        spans = [span for span in self._spans.values() if not np.isnat(span.first)]
        hint = "name a bucket, or a folder as file:PATH, that has labelled rides: see `ridecast outcomes join`"
        if spans:
            first, last = min(span.first for span in spans), max(span.last for span in spans)
            hint = f"choose days between {first.astype('M8[D]')} and {last.astype('M8[D]')}, which have rides"
        return UserError(f"{self.bucket.name} has no usable labelled ride of {month} ({problem})", hint)
