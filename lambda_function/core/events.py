"""The wire formats: ride events in, predictions and rejects out, as frozen structs with decoders and encoders.

The JSON extends that of the MLOps Zoomcamp. Fields are added, never renamed or removed; tests/contract holds golden
files of every form.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.diagnosis import RIDE_EVENT, Expected, foreign_value, form_seen
from lambda_function.core.documents import BYTE_ORDER_MARK
from lambda_function.core.features import FIRST_ZONE, LAST_ZONE, RideColumns
from lambda_function.core.spelling import respeller, whole_in_text
from lambda_function.errors import RejectError

DURATION_DECIMALS = 2
"""Hundredths of a minute on the wire: in finer digits, processors differ in the last bits of a sum."""

MODEL_NAME = "ride_duration_prediction_model"
"""The course's name for its model; consumers may select by it."""

NOT_BASE64, NOT_JSON, INVALID_FIELD = "not_base64", "not_json", "invalid_field"
TOO_DEEP, TOO_LARGE, DAMAGED_AGGREGATE = "too_deep", "too_large", "damaged_aggregate"
REJECT_REASONS = (NOT_BASE64, NOT_JSON, INVALID_FIELD, TOO_DEEP, TOO_LARGE, DAMAGED_AGGREGATE)
"""Every reason of a reject. A reason is a dimension of a metric, so the list stays short."""


_MAX_PARTITION_KEY_UNITS = 256  # Kinesis counts UTF-16 units and needs at least one
_ZONES_IN_DIGITS = frozenset(map(str, range(FIRST_ZONE, LAST_ZONE + 1)))


class Ride(msgspec.Struct, frozen=True, gc=False):
    """A ride as booked. Zones are LocationIDs, the distance is in miles, pickup_datetime is ISO 8601."""

    pickup_zone: Annotated[int, msgspec.Meta(ge=FIRST_ZONE, le=LAST_ZONE)] | str = msgspec.field(name="PULocationID")
    dropoff_zone: Annotated[int, msgspec.Meta(ge=FIRST_ZONE, le=LAST_ZONE)] | str = msgspec.field(name="DOLocationID")
    trip_distance: Annotated[float, msgspec.Meta(ge=0)]
    pickup_datetime: str | None = None


WIRE_NAMES = dict(zip(Ride.__struct_fields__, Ride.__struct_encode_fields__, strict=True))
"""The name in JSON of each field of a ride."""


class RideEvent(msgspec.Struct, frozen=True, gc=False):
    """A decoded input message. The prediction returns `ride_id` in the same type."""

    ride: Ride
    ride_id: str | int


class _TlcRide(msgspec.Struct, frozen=True):
    """The pickup time under the names that TLC's green and yellow months have for it."""

    lpep_pickup_datetime: str | None = None
    tpep_pickup_datetime: str | None = None


class _TlcEvent(msgspec.Struct, frozen=True):
    ride: _TlcRide


class RideDuration(msgspec.Struct, frozen=True, gc=False):
    """The prediction itself: `ride_duration` is in minutes."""

    ride_duration: float
    ride_id: str | int


class Prediction(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An output message. Its bytes depend only on the record and the model version.

    `interval` is low and high, in minutes. The share of durations between them is the level in the manifest. Models
    without intervals send none.
    """

    model: str
    version: str
    prediction: RideDuration
    prediction_id: str
    interval: tuple[float, float] | None = None


class _PredictionWithInterval(msgspec.Struct, frozen=True, gc=False):
    """A `Prediction` whose interval is already JSON."""

    model: str
    version: str
    prediction: RideDuration
    prediction_id: str
    interval: msgspec.Raw


class Reject(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A record, or a sub-record of an aggregate, that can never become a prediction: the reason and all of its data.

    `arrival_time` is ISO 8601 in UTC, `data` the original bytes in base64. `sub_record` is a sub-record's index in its
    aggregate; both have the same sequence number.
    """

    reason: str
    detail: str
    shard_id: str
    sequence_number: str
    arrival_time: str
    partition_key: str
    data: str
    sub_record: int | None = None

    @property
    def event_id(self) -> str:
        """The id of the record or sub-record, which its prediction would have had."""
        record_id = f"{self.shard_id}:{self.sequence_number}"
        return record_id if self.sub_record is None else f"{record_id}:{self.sub_record}"


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder of JSON raises."""

_ZONES = ("pickup_zone", "dropoff_zone")
_respell = respeller(
    WIRE_NAMES.values(), whole={WIRE_NAMES[name] for name in _ZONES}, numbers={WIRE_NAMES["trip_distance"]}
)
_decode_event = msgspec.json.Decoder(RideEvent).decode
_decode_tlc_event = msgspec.json.Decoder(_TlcEvent).decode
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
decode_prediction = msgspec.json.Decoder(Prediction).decode
decode_reject = msgspec.json.Decoder(Reject).decode


def decode_ride_event(data: bytes) -> RideEvent:
    """Decode one ride event and check its fields.

    Raises:
        RejectError: The event can never be predicted; the detail names the field by its path.

    >>> decode_ride_event(b'{"ride":{"PULocationID":130,"DOLocationID":"205","trip_distance":3},"ride_id":7}').ride_id
    7
    """
    try:
        event = _decode_event(data)
    except UNDECODABLE as error:
        event = _decode_unusual(data, error)
    ride = event.ride
    if type(ride.pickup_zone) is str or type(ride.dropoff_zone) is str:
        event = _with_checked_zones(event)
    if ride.pickup_datetime is None and data.find(b"pep_pickup_datetime") > 0:  # `in` takes ten times as long
        event = _with_tlc_pickup(event, data)
    return event


def partition_key(ride_id: str | int) -> str:
    """Return `str(ride_id)`, or its SHA-256 in hex if Kinesis would refuse that as a key.

    >>> partition_key(256), len(partition_key("x" * 10_000))
    ('256', 64)
    """
    key = str(ride_id)
    if 1 <= len(key.encode("utf-16-le")) // 2 <= _MAX_PARTITION_KEY_UNITS:
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def partition_keys(ride_ids: Sequence[str | int]) -> list[str]:
    """Return the `partition_key` of each (n,)."""
    keys = list(map(str, ride_ids))
    lengths = sorted(set(map(len, keys)))
    if lengths and lengths[0] and 2 * lengths[-1] <= _MAX_PARTITION_KEY_UNITS:  # two units a character at most
        return keys
    return list(map(partition_key, keys))


def encode_predictions(
    model_version: str,
    durations_minutes: Iterable[float],
    ride_ids: Iterable[str | int],
    prediction_ids: Iterable[str],
    intervals: Iterable[msgspec.Raw] | None = None,
) -> list[bytes]:
    """Encode predictions (n,) in one call, separated by line ends, which JSON never contains.

    Args:
        model_version: The version of the model.
        durations_minutes: Rounded to two decimals (n,).
        ride_ids: The rides' ids (n,).
        prediction_ids: The predictions' ids (n,).
        intervals: JSON of low and high (n,), if the model has intervals.

    >>> encode_predictions("green-2021-01-3f2a9c1d0b7e", [18.23], [256], ["shardId-000000000000:4963"])[0][:61].decode()
    '{"model":"ride_duration_prediction_model","version":"green-20'
    """
    predictions: Sequence[Prediction | _PredictionWithInterval]
    if intervals is None:
        predictions = [
            Prediction(MODEL_NAME, model_version, RideDuration(duration, ride_id), prediction_id)
            for duration, ride_id, prediction_id in zip(durations_minutes, ride_ids, prediction_ids, strict=True)
        ]
    else:
        predictions = [
            _PredictionWithInterval(MODEL_NAME, model_version, RideDuration(duration, ride_id), prediction_id, interval)
            for duration, ride_id, prediction_id, interval in zip(
                durations_minutes, ride_ids, prediction_ids, intervals, strict=True
            )
        ]
    return _encode_lines(predictions).split(b"\n")[:-1]


def encode_reject(reject: Reject) -> bytes:
    """Encode one reject as a line without its line end."""
    return _encode(reject)


def ride_columns(rides: Sequence[Ride], pickup_minutes: NDArray[np.int64]) -> RideColumns:
    """Return rides (n,) and their pickup minutes (n,) as the columns that features are computed from."""
    return RideColumns(
        pickup_zone=np.array([ride.pickup_zone for ride in rides], np.int64),  # digits become numbers here
        dropoff_zone=np.array([ride.dropoff_zone for ride in rides], np.int64),
        trip_distance_miles=np.array([ride.trip_distance for ride in rides], np.float64),
        pickup_minute=pickup_minutes,
    )


def ride_of(columns: RideColumns, row: int) -> Ride:
    """Return one of the rides of `ride_columns`, its pickup time to the minute."""
    pickup = columns.pickup_minute[row].astype("datetime64[m]").astype("datetime64[s]")
    return Ride(
        pickup_zone=int(columns.pickup_zone[row]),
        dropoff_zone=int(columns.dropoff_zone[row]),
        trip_distance=float(columns.trip_distance_miles[row]),
        pickup_datetime=str(pickup),
    )


def _decode_unusual(data: bytes, error: Exception) -> RideEvent:
    """Decode an event with a byte order mark, or with its numbers in another spelling.

    Raises:
        RejectError: It is neither; the detail says why.
    """
    document = data.removeprefix(BYTE_ORDER_MARK)
    if len(document) < len(data) and not document.startswith(BYTE_ORDER_MARK):
        return decode_ride_event(document)
    if isinstance(error, msgspec.ValidationError):
        try:
            return _decode_event(_respell(data))
        except UNDECODABLE as remaining:
            raise refusal(data, remaining) from remaining
    raise refusal(data, error) from error


def refusal(data: bytes, error: Exception, expected: Expected = RIDE_EVENT) -> RejectError:
    """Return why data are not the expected message: the field at fault by its path, or the form that they may have.

    `error` is one of UNDECODABLE.
    """
    if isinstance(error, RecursionError):
        return RejectError(TOO_DEEP, f"nested deeper than any {expected.name}")
    reason, detail = INVALID_FIELD, str(error)
    if not isinstance(error, msgspec.ValidationError):
        reason = NOT_JSON
        if found := foreign_value(data):
            return RejectError(INVALID_FIELD, f"Expected {found[0]} - at `${found[1]}`")
    form = "" if " - at `" in detail else form_seen(data, expected)
    return RejectError(reason, f"{detail}: this looks like {form}" if form else detail)


def _with_checked_zones(event: RideEvent) -> RideEvent:
    """Return an event whose zones in text are digits of zones."""
    ride = event.ride
    for name in _ZONES:
        zone = getattr(ride, name)
        if type(zone) is str and zone not in _ZONES_IN_DIGITS:
            whole = whole_in_text(zone)
            if whole not in _ZONES_IN_DIGITS:
                problem = f"Expected a zone from {FIRST_ZONE} to {LAST_ZONE} - at `$.ride.{WIRE_NAMES[name]}`"
                raise RejectError(INVALID_FIELD, problem)
            ride = msgspec.structs.replace(ride, **{name: whole})
    return event if ride is event.ride else msgspec.structs.replace(event, ride=ride)


def _with_tlc_pickup(event: RideEvent, data: bytes) -> RideEvent:
    """Return an event with the pickup time that its data have under a name of TLC's."""
    try:
        names = _decode_tlc_event(data.removeprefix(BYTE_ORDER_MARK)).ride
    except UNDECODABLE as error:
        raise refusal(data, error) from error
    pickup = names.lpep_pickup_datetime or names.tpep_pickup_datetime
    return msgspec.structs.replace(event, ride=msgspec.structs.replace(event.ride, pickup_datetime=pickup))
