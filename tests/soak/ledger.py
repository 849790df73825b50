"""The soak's ledger: where each ride event has ended, in ten bytes an event and nothing that grows."""

import base64
import json
from array import array
from collections.abc import Iterable
from zlib import crc32

from lambda_function.core.events import decode_prediction, decode_reject
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.errors import RejectError

_PREDICTED, _REJECTED, _GIVEN_UP = 1, 2, 4
_BEFORE_ID = b',"prediction_id"'


class SoakLedger:
    """Enters what comes out of a world, by ride event's number.

    Of each event it keeps a digest of its bytes, where it was found, and its prediction's model version and a digest of
    the prediction up to its id: a producer that sends an event twice, for no answer came, gives it two ids.

    Args:
        n_events: Numbers go from 0 up to this.

    Attributes:
        n_sent: Events entered as sent.
        n_repeated: Predictions of an event that had one.
        n_differing: Those among them of the same model version and with other bytes.
        n_spoilt: Rejects and given-up events with other bytes than were sent.
        versions: Model versions, in order of appearance.
    """

    def __init__(self, n_events: int) -> None:
        self.n_sent = self.n_repeated = self.n_differing = self.n_spoilt = 0
        self.versions: list[str] = []
        # All memory is touched here, not as the soak goes on.
        self._places = bytearray(b"\0" * n_events)
        self._version = bytearray(b"\0" * n_events)
        self._sent = array("I", bytes(4 * n_events))
        self._prediction = array("I", bytes(4 * n_events))

    def add_sent(self, events: Iterable[bytes]) -> None:
        """Enters the events that follow those entered before."""
        for event in events:
            self._sent[self.n_sent] = crc32(event)
            self.n_sent += 1

    def add_output(self, data: bytes) -> None:
        """Enters a record of the output stream: a prediction, or an aggregate of them."""
        for line in [one for _, one in unpack(data)] if is_aggregated(data) else [data]:
            self._add_prediction(line)

    def add_rejects(self, ndjson: bytes) -> None:
        """Enters an object of rejects."""
        for reject in map(decode_reject, ndjson.splitlines()):
            self._add(_REJECTED, reject.partition_key, base64.b64decode(reject.data))

    def add_failed(self, invocation_record: bytes) -> None:
        """Enters an object of the failure destination."""
        for record in json.loads(json.loads(invocation_record)["payload"])["Records"]:
            envelope = record["kinesis"]
            for key, event in _parts(envelope["partitionKey"], base64.b64decode(envelope["data"])):
                self._add(_GIVEN_UP, key, event)

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
        return self._count(_GIVEN_UP)

    @property
    def n_predicted_and_rejected(self) -> int:
        """Events with both."""
        return self._count(_PREDICTED | _REJECTED)

    @property
    def n_failed_though_done(self) -> int:
        """Events that are given up and have a prediction or a reject."""
        return self._count(_GIVEN_UP | _PREDICTED) + self._places.count(_GIVEN_UP | _REJECTED)

    @property
    def n_lost(self) -> int:
        """Events sent that are nowhere."""
        return self._places.count(0, 0, self.n_sent)

    def _count(self, places: int) -> int:
        """Counts the events that are in all of these places."""
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
        self.n_spoilt += self._sent[number] != crc32(event)

    def _number_of(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)


def _parts(partition_key: str, data: bytes) -> list[tuple[str, bytes]]:
    """Returns the events in a record: sub-records, or itself."""
    if not is_aggregated(data):
        return [(partition_key, data)]
    try:
        return unpack(data)
    except RejectError:
        return [(partition_key, data)]
