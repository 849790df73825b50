"""The soak's ledger: where each ride event ended, in ten bytes an event, allocated once."""

import base64
import json
from array import array
from collections.abc import Iterable
from zlib import crc32

from lambda_function.core.events import decode_prediction, decode_reject
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.errors import RejectError

_PREDICTED, _REJECTED, _FAILED = 1, 2, 4
_BEFORE_ID = b',"prediction_id"'


class SoakLedger:
    """Records the output of a simulation by the number of the ride event.

    For each event it stores a digest of its bytes, where it was found, the model version of its prediction, and a
    digest of the prediction up to its id: an event has two ids if its producer sends it again after a lost answer.

    Args:
        n_events: Numbers are 0 to n_events - 1.

    Attributes:
        n_sent: Events sent.
        n_repeated: Predictions of an event that had one.
        n_differing: Repeated predictions of the same model version with different bytes.
        n_damaged: Rejects and failed events whose bytes differ from those sent.
        versions: Model versions, in order of appearance.
    """

    def __init__(self, n_events: int) -> None:
        self.n_sent = self.n_repeated = self.n_differing = self.n_damaged = 0
        self.versions: list[str] = []
        # Written here, so that the memory does not grow during the soak.
        self._places = bytearray(b"\0" * n_events)
        self._version = bytearray(b"\0" * n_events)
        self._sent = array("I", bytes(4 * n_events))
        self._prediction = array("I", bytes(4 * n_events))

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
    def n_lost(self) -> int:
        """Events sent that were not found."""
        return self._places.count(0, 0, self.n_sent)

    def _count(self, places: int) -> int:
        """Count the events that are in all of these places."""
        return sum(self._places.count(value) for value in range(8) if value & places == places)

    def _add_prediction(self, line: bytes) -> None:
        prediction = decode_prediction(line)
        number, version = int(prediction.prediction.ride_id), self._number_of(prediction.version)
        digest = crc32(line.partition(_BEFORE_ID)[0])
        if self._places[number] & _PREDICTED:
            self.n_repeated += 1
            self.n_differing += self._version[number] == version and self._prediction[number] != digest
        self._places[number] |= _PREDICTED
        self._version[number] = version
        self._prediction[number] = digest

    def _add(self, place: int, partition_key: str, event: bytes) -> None:
        number = int(partition_key)
        self._places[number] |= place
        self.n_damaged += self._sent[number] != crc32(event)

    def _number_of(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)


def parts_of(partition_key: str, data: bytes) -> list[tuple[str, bytes]]:
    """Return partition key and bytes of the events in a record: its sub-records, or itself."""
    if not is_aggregated(data):
        return [(partition_key, data)]
    try:
        return unpack(data)
    except RejectError:
        return [(partition_key, data)]
