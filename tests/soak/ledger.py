"""The soak's ledger: where each ride event ended, in 14 bytes an event, allocated once."""

import base64
import json
from array import array
from collections.abc import Iterable
from zlib import crc32

from lambda_function.core.channel import Channel
from lambda_function.core.events import decode_prediction, decode_reject
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.errors import RejectError

_PREDICTED, _REJECTED, _FAILED = 1, 2, 4


class SoakLedger:
    """Records the output of a simulation by the number of the ride event.

    For each event it stores a digest of its bytes, where it was found, and digests of its prediction and of the
    prediction's id with the model version. An event whose producer sent it again after a lost answer has two ids, and
    each id has its own predictions.

    Args:
        n_events: Numbers are 0 to n_events - 1.

    Attributes:
        n_sent: Events sent.
        n_repeated: Predictions of an event that had one.
        n_differing: Predictions of an id that had one with different bytes, without those in `n_withdrawn`.
        n_withdrawn: Predictions of an id that had one by a version which a rollback withdrew, or put in its place.
        rollbacks: The moves that withdrew a version.
        n_damaged: Rejects and failed events whose bytes differ from those sent.
        versions: Served versions, in order of appearance.
    """

    def __init__(self, n_events: int) -> None:
        self.n_sent = self.n_repeated = self.n_differing = self.n_withdrawn = self.n_damaged = 0
        self.versions: list[str] = []
        self.rollbacks: list[Channel] = []
        # Written here, so that the memory does not grow during the soak.
        self._places = bytearray(b"\0" * n_events)
        self._version = bytearray(b"\0" * n_events)
        self._sent = array("I", bytes(4 * n_events))
        self._prediction = array("I", bytes(4 * n_events))
        self._id = array("I", bytes(4 * n_events))
        self._other_ids: dict[tuple[int, int], tuple[int, int]] = {}  # (number, id) → (version, prediction)

    def add_sent(self, events: Iterable[bytes]) -> None:
        """Add sent events; their numbers follow those added before."""
        for event in events:
            self._sent[self.n_sent] = crc32(event)
            self.n_sent += 1

    def add_output(self, data: bytes) -> None:
        """Add a record of the output stream: a prediction, or an aggregate of predictions."""
        for line in [one for _, one in unpack(data)] if is_aggregated(data) else [data]:
            self._add_prediction(line)

    def add_rejects(self, ndjson: bytes) -> None:
        """Add an object of rejects."""
        for reject in map(decode_reject, ndjson.splitlines()):
            self._add(_REJECTED, reject.partition_key, base64.b64decode(reject.data))

    def add_failed(self, invocation_record: bytes) -> None:
        """Add an object of the failure destination."""
        for record in json.loads(json.loads(invocation_record)["payload"])["Records"]:
            envelope = record["kinesis"]
            for key, event in parts_of(envelope["partitionKey"], base64.b64decode(envelope["data"])):
                self._add(_FAILED, key, event)

    @property
    def n_predicted(self) -> int:
        """Events with a prediction."""
        return self._count(_PREDICTED)

    @property
    def n_rejected(self) -> int:
        """Events with a reject."""
        return self._count(_REJECTED)

    @property
    def n_failed(self) -> int:
        """Events in the failure destination."""
        return self._count(_FAILED)

    @property
    def n_predicted_and_rejected(self) -> int:
        """Events with both."""
        return self._count(_PREDICTED | _REJECTED)

    @property
    def n_failed_though_done(self) -> int:
        """Failed events that also have a prediction or a reject."""
        return self._count(_FAILED | _PREDICTED) + self._places.count(_FAILED | _REJECTED)

    @property
    def n_open(self) -> int:
        """Failed events that have neither a prediction nor a reject."""
        return self._places.count(_FAILED)

    @property
    def n_ids(self) -> int:
        """Prediction ids."""
        return self.n_predicted + len(self._other_ids)

    @property
    def n_lost(self) -> int:
        """Events sent that were not found."""
        return self._places.count(0, 0, self.n_sent)

    def _count(self, places: int) -> int:
        """Count the events that are in all of these places."""
        return sum(self._places.count(value) for value in range(8) if value & places == places)

    def _add_prediction(self, line: bytes) -> None:
        prediction = decode_prediction(line)
        number, version = int(prediction.prediction.ride_id), self._number_of(prediction.version)
        id_digest, digest = crc32(prediction.prediction_id.encode()), crc32(line)
        if not self._places[number] & _PREDICTED:
            self._places[number] |= _PREDICTED
            self._id[number], self._version[number], self._prediction[number] = id_digest, version, digest
            return
        self.n_repeated += 1
        if self._id[number] == id_digest:
            before = self._version[number], self._prediction[number]
        else:
            before = self._other_ids.setdefault((number, id_digest), (version, digest))
        if before[1] != digest:
            versions = {self.versions[before[0]], prediction.version}
            is_withdrawn = any(_explains(move, versions) for move in self.rollbacks)
            self.n_withdrawn += is_withdrawn
            self.n_differing += not is_withdrawn

    def _add(self, place: int, partition_key: str, event: bytes) -> None:
        number = int(partition_key)
        self._places[number] |= place
        self.n_damaged += self._sent[number] != crc32(event)

    def _number_of(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)


def _explains(move: Channel, versions: set[str]) -> bool:
    """Return whether a move took one of two served versions out, and has the other in a segment."""
    left = {version for version in versions if not move.has_withdrawn(version)}
    return len(left) == 1 and any(left <= set(segment.served_versions) for segment in move.segments)


def parts_of(partition_key: str, data: bytes) -> list[tuple[str, bytes]]:
    """Return partition key and bytes of the events in a record: its sub-records, or itself."""
    if not is_aggregated(data):
        return [(partition_key, data)]
    try:
        return unpack(data)
    except RejectError:
        return [(partition_key, data)]
