"""Worlds for tests: one is run until all is settled, and its account says where each record has ended."""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.local.event_source.lambda_event import LambdaRecord, lambda_records
from infra.local.simulation.faults import At, FaultSchedule
from infra.local.simulation.simulation import Simulation, SimulationOptions
from lambda_function.core.events import Reject, decode_prediction, decode_reject
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.core.records import Entry
from lambda_function.errors import RejectError
from tests.builders import STREAM_ARN, small_bundle
from tests.kits.simulation_strategies import mapping_config
from training.model.bundle import ExportedBundle

PATIENCE_S = 60.0
"""The longest backoff is 30 s, and new shards are looked for every 10."""


class Part(NamedTuple):
    """Its record's event id, and the bytes of the ride event."""

    event_id: str
    data: bytes


@dataclass
class Account:
    """A world that has run, and what it left.

    Attributes:
        confirmed: Records that the function has said are done, as the mapping heard it, in order.
        batches: Each invocation's records.
        settled: What was settled before each invocation.
    """

    world: Simulation
    confirmed: list[str] = field(default_factory=list)
    batches: list[list[LambdaRecord]] = field(default_factory=list)
    settled: list[set[str]] = field(default_factory=list)
    _parsed: dict[str, list[LambdaRecord]] = field(default_factory=dict)

    def watch(self, batch: list[LambdaRecord], n_done: int | None) -> None:
        """Notes an invocation."""
        self.batches.append(batch)
        self.settled.append({*self.confirmed, *self.failed()})
        self.confirmed += [record["eventID"] for record in batch[: n_done or 0]]

    def arrived(self) -> list[LambdaRecord]:
        """Every record that the input stream took."""
        shards = self.world.input.shards.values()
        return [one for s in shards for one in lambda_records(s.records, s.shard_id, STREAM_ARN)]

    def parts(self) -> dict[str, Part]:
        """Everything that is predicted or rejected by itself, by its identity: records, and sub-records."""
        return {
            identity: Part(record["eventID"], data)
            for record in self.arrived()
            for identity, data in parts_of(record["eventID"], data_of(record))
        }

    def published(self) -> list[bytes]:
        """Each prediction on the output stream, those in aggregates too, repeats included."""
        datas = [record["Data"] for shard in self.world.output.shards.values() for record in shard.records]
        return [one for data in datas for _, one in parts_of("", data)]

    def predicted(self) -> dict[str, dict[str, set[bytes]]]:
        """The different bytes of each prediction, by its id and model version."""
        found: dict[str, dict[str, set[bytes]]] = defaultdict(lambda: defaultdict(set))
        for line in self.published():
            prediction = decode_prediction(line)
            found[prediction.prediction_id][prediction.version].add(line)
        return found

    def rejects(self) -> list[tuple[str, bytes]]:
        """Identity and line of each reject, in all objects."""
        lines = [line for body in self.world.bucket.bodies("rejects/") for line in body.splitlines()]
        return [(identity_of(decode_reject(line)), line) for line in lines]

    def rejected(self) -> dict[str, bytes]:
        """The original bytes of each reject, by identity."""
        return {identity: base64.b64decode(decode_reject(line).data) for identity, line in self.rejects()}

    def ended(self) -> set[str]:
        """Identities that have a prediction or a reject."""
        return self.predicted().keys() | self.rejected().keys()

    def failed(self) -> Counter[str]:
        """How often each record stands in the failure destination."""
        return Counter(record["eventID"] for record in self._destination())

    def payloads(self) -> dict[str, bytes]:
        """The bytes of each record in the failure destination."""
        return {record["eventID"]: data_of(record) for record in self._destination()}

    def _destination(self) -> Iterator[LambdaRecord]:
        for key, body in list(self.world.bucket.objects.items()):
            if key.startswith("aws/lambda/"):
                if key not in self._parsed:
                    self._parsed[key] = json.loads(json.loads(body)["payload"])["Records"]
                yield from self._parsed[key]


def identity_of(reject: Reject) -> str:
    event_id = f"{reject.shard_id}:{reject.sequence_number}"
    return event_id if reject.sub_record is None else f"{event_id}:{reject.sub_record}"


def data_of(record: LambdaRecord) -> bytes:
    return base64.b64decode(record["kinesis"]["data"])


def parts_of(identity: str, data: bytes) -> list[tuple[str, bytes]]:
    """Identity and bytes of what a record holds: sub-records, or itself."""
    if not is_aggregated(data):
        return [(identity, data)]
    try:
        return [(f"{identity}:{index}", one) for index, (_, one) in enumerate(unpack(data))]
    except RejectError:
        return [(identity, data)]


def run(arrivals: list[list[Entry]], options: SimulationOptions, faults: Iterable[At] = ()) -> Account:
    """Runs a world until all is settled."""
    account: Account

    def watch(batch: list[LambdaRecord], n_done: int | None) -> None:
        account.watch(batch, n_done)

    account = Account(Simulation([small_bundle(), small_bundle(seed=2)], options, FaultSchedule(faults), watch))
    for entries in arrivals:
        account.world.send(entries)
        account.world.poll()
    assert account.world.settle(PATIENCE_S), "a shard is blocked"
    return account


def alone(records: Iterable[LambdaRecord], bundle: ExportedBundle) -> dict[str, bytes]:
    """The predictions of records that come one by one, in JSON and without a fault, by id."""
    world = Simulation([bundle], SimulationOptions(mapping=mapping_config()))
    for record in records:
        world.function({"Records": [record]})
    return {decode_prediction(line).prediction_id: line for _, line in world.output.take()}
