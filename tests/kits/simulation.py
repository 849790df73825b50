"""Simulations for tests: run one until all records are settled, and find where each record ended."""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.local.simulation.simulation import Simulation, SimulationOptions
from infra.operate.lambda_event import LambdaRecord, lambda_records
from lambda_function.core.events import decode_prediction, decode_reject
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.core.records import Entry
from lambda_function.errors import RejectError
from tests.builders import STREAM_ARN, small_bundle
from tests.kits.batches import queued_objects
from tests.kits.faults import At, FaultSchedule, FaultySimulation
from tests.kits.simulation_strategies import mapping_config
from training.model.bundle import ExportedBundle

PATIENCE_S = 60.0
"""The longest backoff is 30 s, and shards are listed every 10 s."""


class Part(NamedTuple):
    """The event id of a record, and the bytes of a ride event in it."""

    event_id: str
    data: bytes


@dataclass
class Account:
    """A simulation that has run, and its output.

    Attributes:
        confirmed: Records that the function has reported as done, in order.
        batches: Each invocation's records.
        settled: What was settled before each invocation.
    """

    simulation: Simulation
    confirmed: list[str] = field(default_factory=list)
    batches: list[list[LambdaRecord]] = field(default_factory=list)
    settled: list[set[str]] = field(default_factory=list)
    _parsed: dict[str, list[LambdaRecord]] = field(default_factory=dict)

    def watch(self, batch: list[LambdaRecord], n_done: int | None) -> None:
        """Record an invocation."""
        self.batches.append(batch)
        self.settled.append({*self.confirmed, *self.failed()})
        self.confirmed += [record["eventID"] for record in batch[: n_done or 0]]

    def arrived(self) -> list[LambdaRecord]:
        """Return every record of the input stream."""
        shards = self.simulation.input.shards.values()
        return [one for s in shards for one in lambda_records(s.records, s.shard_id, STREAM_ARN)]

    def parts(self) -> dict[str, Part]:
        """Return all parts, records and sub-records, by their identity. Each is predicted or rejected."""
        return {
            identity: Part(record["eventID"], data)
            for record in self.arrived()
            for identity, data in parts_of(record["eventID"], data_of(record))
        }

    def published(self) -> list[bytes]:
        """Return each prediction on the output stream, including those in aggregates and repeats."""
        datas = [record["Data"] for shard in self.simulation.output.shards.values() for record in shard.records]
        return predictions_in(datas)

    def predicted(self) -> dict[str, dict[str, set[bytes]]]:
        """Return the different bytes of each prediction by its id and model version."""
        found: dict[str, dict[str, set[bytes]]] = defaultdict(lambda: defaultdict(set))
        for line in self.published():
            prediction = decode_prediction(line)
            found[prediction.prediction_id][prediction.version].add(line)
        return found

    def rejects(self) -> list[tuple[str, bytes]]:
        """Return identity and line of each reject in all objects, in the bucket and in the queue."""
        queued = [one.body for one in queued_objects(self.simulation.queue)]
        bodies = [*self.simulation.bucket.bodies("rejects/"), *queued]
        lines = [line for body in bodies for line in body.splitlines()]
        return [(decode_reject(line).event_id, line) for line in lines]

    def rejected(self) -> dict[str, bytes]:
        """Return the original bytes of each reject by identity."""
        return {identity: base64.b64decode(decode_reject(line).data) for identity, line in self.rejects()}

    def ended(self) -> set[str]:
        """Return the identities that have a prediction or a reject."""
        return self.predicted().keys() | self.rejected().keys()

    def failed(self) -> Counter[str]:
        """Count how often each record is in the failure destination."""
        return Counter(record["eventID"] for record in self._destination())

    def payloads(self) -> dict[str, bytes]:
        """Return the bytes of each record in the failure destination."""
        return {record["eventID"]: data_of(record) for record in self._destination()}

    def _destination(self) -> Iterator[LambdaRecord]:
        for key, body in list(self.simulation.bucket.objects.items()):
            if key.startswith("aws/lambda/"):
                if key not in self._parsed:
                    self._parsed[key] = json.loads(json.loads(body)["payload"])["Records"]
                yield from self._parsed[key]


def data_of(record: LambdaRecord) -> bytes:
    return base64.b64decode(record["kinesis"]["data"])


def parts_of(identity: str, data: bytes) -> list[tuple[str, bytes]]:
    """Return identity and bytes of a record's parts: its sub-records, or itself."""
    if not is_aggregated(data):
        return [(identity, data)]
    try:
        return [(f"{identity}:{index}", one) for index, (_, one) in enumerate(unpack(data))]
    except RejectError:
        return [(identity, data)]


def predictions_in(datas: Iterable[bytes]) -> list[bytes]:
    """Return the predictions in records of the output stream, those in aggregates included."""
    return [one for data in datas for _, one in parts_of("", data)]


def run(arrivals: list[list[Entry]], options: SimulationOptions, faults: Iterable[At] = ()) -> Account:
    """Run a simulation until all records are settled."""
    account: Account

    def watch(batch: list[LambdaRecord], n_done: int | None) -> None:
        account.watch(batch, n_done)

    account = Account(FaultySimulation([small_bundle(), small_bundle(seed=2)], options, FaultSchedule(faults), watch))
    for entries in arrivals:
        account.simulation.send(entries)
        account.simulation.mapping.poll_once()
    assert account.simulation.settle(PATIENCE_S), "a shard is blocked"
    return account


def alone(records: Iterable[LambdaRecord], bundle: ExportedBundle) -> dict[str, bytes]:
    """Return the predictions of records that are delivered one by one, in JSON and without a fault, by id."""
    simulation = Simulation(bundle, SimulationOptions(mapping=mapping_config()))
    for record in records:
        simulation.function({"Records": [record]})
    return {decode_prediction(line).prediction_id: line for _, line in simulation.output.take()}
