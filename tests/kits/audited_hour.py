"""One hour of the whole path in memory: producer, function, archive, join. Tests plant faults between the parts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.local.simulation.kinesis import MemoryStream
from infra.local.simulation.simulation import BUCKET, Simulation, SimulationOptions
from infra.operate.lambda_event import LambdaRecord, lambda_records
from lambda_function.archive import ArchiveHandler, build_archiver
from lambda_function.aws.settings import ArchiveSettings
from lambda_function.core.events import decode_prediction, decode_reject, partition_key
from lambda_function.core.kpl import is_aggregated, pack, unpack
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES
from lambda_function.core.replay import replay_event
from tests.builders import small_bundle
from tests.fakes import FakeClock, FakeContext
from tests.kits.simulation_strategies import mapping_config
from training.model.bundle import ExportedBundle
from training.monitoring.hours import FIRST, Hour
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import HourSummary

Edit = Callable[[bytes], bytes | None]
"""Returns what is in the place of a prediction; None if nothing is."""


@dataclass
class AuditedHour:
    """A simulation of the stream path, an archive and a join over the hour in which its clock begins.

    Attributes:
        bundle: The model that serves at the start.
        output_format: Of the function, ``json`` or ``kpl``.
        batch_size: Records of an invocation, of the function and of the archive.
    """

    bundle: ExportedBundle = field(default_factory=small_bundle)
    output_format: str = "json"
    batch_size: int = 6
    n_shards: int = 1

    def __post_init__(self) -> None:
        options = SimulationOptions(
            mapping=mapping_config(batch_size=self.batch_size), n_shards=self.n_shards, output_format=self.output_format
        )
        self.simulation = Simulation(self.bundle, options)
        self.outcomes = MemoryStream("ride-outcomes", 1, self.simulation.clock.wall)
        self.objects = self.simulation.bucket.objects
        self.hour = Hour.of(self.simulation.clock.wall())

    # -- what happens

    def send(self, *datas: bytes) -> None:
        """Send records, to all shards; the function handles them."""
        self.simulation.send([(str(place), data) for place, data in enumerate(datas)])
        assert self.simulation.settle(patience_s=60.0)

    def send_to_each_shard(self, data: bytes) -> None:
        """Send a record to each shard; the function handles them."""
        for shard in self.simulation.input.open_shards:
            self.simulation.input.append(shard, "1", data)
        assert self.simulation.settle(patience_s=60.0)

    def send_outcomes(self, minutes: dict[str | int, float]) -> None:
        """Send the outcomes of rides, a minute later."""
        self.simulation.clock.sleep(60.0)
        entries = [
            {"PartitionKey": partition_key(ride_id), "Data": encode_outcome(Outcome(ride_id, duration))}
            for ride_id, duration in minutes.items()
        ]
        self.outcomes.put_records(StreamName=self.outcomes.name, Records=entries)

    def replay(self, records: Sequence[LambdaRecord]) -> None:
        """Bring records to the function again, as `ridecast records redrive` and `ridecast rides replay` do."""
        self.simulation.function(replay_event(records))

    def records(self) -> list[LambdaRecord]:
        """Return the ride events as Lambda brings them."""
        return _records(self.simulation.input)

    # -- faults

    def predictions(self) -> list[bytes]:
        """Return the predictions on the output stream."""
        return [data for record in self._published() for data in _predictions_in(record["Data"])]

    def predicted_ids(self) -> list[str]:
        """Return the ids of the predictions on the output stream."""
        return [decode_prediction(data).prediction_id for data in self.predictions()]

    def edit(self, edit: Edit) -> None:
        """Put others in place of the predictions on the output stream, before they are archived."""
        for shard in self.simulation.output.shards.values():
            for record in shard.records:
                old = _predictions_in(record["Data"])
                new = [one for one in map(edit, old) if one is not None]
                if new != old:
                    record["Data"] = _packed(new) if is_aggregated(record["Data"]) else b"".join(new)
            shard.records[:] = [record for record in shard.records if record["Data"]]

    def drop(self, ids: Iterable[str]) -> None:
        """Drop the predictions with these ids."""
        dropped = set(ids)
        self.edit(lambda data: None if decode_prediction(data).prediction_id in dropped else data)

    def change(self, ids: Iterable[str]) -> None:
        """Change a byte of the predictions with these ids."""
        chosen = set(ids)
        self.edit(lambda data: changed(data) if decode_prediction(data).prediction_id in chosen else data)

    def publish(self, *datas: bytes) -> None:
        """Publish more predictions."""
        stream = self.simulation.output
        for data in datas:
            stream.append(stream.open_shards[0], "1", data)

    def reject_ids(self) -> list[str]:
        """Return the ids of the rejects in the bucket."""
        bodies = self.simulation.bucket.bodies("rejects/")
        return [decode_reject(line).event_id for body in bodies for line in body.splitlines()]

    def remove_rejects(self, ids: Iterable[str]) -> None:
        """Remove the rejects with these ids from the bucket."""
        removed = set(ids)
        for key in [key for key in self.objects if key.startswith("rejects/")]:
            lines = self.objects[key].splitlines(keepends=True)
            kept = [line for line in lines if decode_reject(line).event_id not in removed]
            self.objects[key] = b"".join(kept)

    # -- the archive and the join

    def archive(self) -> None:
        """Archive all three streams."""
        archiver, context = _archiver_of(self), FakeContext(FakeClock())
        for stream in (self.simulation.input, self.simulation.output, self.outcomes):
            records = _records(stream)
            for shard_id in stream.shards:
                ours = [record for record in records if record["eventID"].startswith(f"{shard_id}:")]
                for first in range(0, len(ours), self.batch_size):
                    archiver({"Records": ours[first : first + self.batch_size]}, context)

    def join(self, pass_number: int = FIRST, **options: Any) -> HourSummary:
        """Join the hour from what is archived."""
        return join_hour(self.simulation.models, self.hour, JoinOptions(**options), pass_number)

    def audited(self, **options: Any) -> HourSummary:
        """Archive and join."""
        self.archive()
        return self.join(**options)

    def _published(self) -> list[dict[str, Any]]:
        return [record for shard in self.simulation.output.shards.values() for record in shard.records]


def changed(prediction: bytes) -> bytes:
    """Return a prediction with another first letter of the model's name: it still decodes."""
    return prediction.replace(b'"model":"r', b'"model":"R', 1)


def _records(stream: MemoryStream) -> list[LambdaRecord]:
    arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{stream.name}"
    return [one for shard in stream.shards.values() for one in lambda_records(shard.records, shard.shard_id, arn)]


def _predictions_in(data: bytes) -> list[bytes]:
    return [one for _, one in unpack(data)] if is_aggregated(data) else [data]


def _packed(predictions: Sequence[bytes]) -> bytes:
    return pack([("1", data) for data in predictions], n_groups=1)[0].data if predictions else b""


def _archiver_of(hour: AuditedHour) -> ArchiveHandler:
    kinds = {hour.simulation.input.name: RIDES, hour.simulation.output.name: PREDICTIONS, hour.outcomes.name: OUTCOMES}
    return build_archiver(ArchiveSettings(bucket=BUCKET, kinds=kinds), hour.simulation.bucket)
