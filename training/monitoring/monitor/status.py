"""`monitor/status.json`: the newest state of monitoring, for the command line, the report, the demo and the doctor."""

from datetime import date, datetime
from typing import Literal, NamedTuple

import msgspec

from training.errors import BucketError, UserError
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket

STATUS_KEY = "monitor/status.json"
STATUS_FORMAT = 1

State = Literal["ok", "alarm", "unknown"]
"""An alarm stays until a new model serves or somebody acknowledges it; unknown: there is nothing to compare."""


UNKNOWN_CALIBRATION = CalibrationStatus(mode=CalibrationMode.OFF, state="unknown", text="No run has looked at it yet.")


class QuantityStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity on the last monitored day beside the reference.

    Attributes:
        name: One of `DATA_QUANTITIES` or `PERFORMANCE_QUANTITIES`.
        group: "data" or "performance".
        unit: Of the values, as in "miles".
        today: The median of a data quantity, the value of a performance quantity; None without rides.
        reference: The same of all reference days of the day's kind.
        usual_low: Below it are 5 % of the reference days of the day's kind; above `usual_high` are 5 %.
        evidence: Of the detector, M_q.
    """

    name: str
    group: str
    unit: str
    today: float | None = None
    reference: float | None = None
    usual_low: float | None = None
    usual_high: float | None = None
    evidence: float = 0.0
    state: State = "unknown"


class GroupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of all quantities of a group together, which an alarm is for.

    Attributes:
        group: "data" or "performance".
        evidence: The mean of the quantities' evidence; at the threshold there is an alarm.
        since: The day since which the evidence of an alarm has grown; None without one.
        quantity: The quantity with the most evidence; None if nothing is known.
        text: One sentence: what moved, since when, how sure that is, and what to do.
    """

    group: str
    state: State = "unknown"
    evidence: float = 0.0
    threshold: float = 365.0
    since: date | None = None
    quantity: str | None = None
    text: str = ""


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """A value over the last days, at most 28, with a plain 95 % interval over the days, beside the reference.

    Attributes:
        quantity: "rmse_raw", "rmse_served", "bias_served" or "coverage_served", and so on.
        value: None without rides; so are the ends of the interval, which needs two days at least.
        reference: Of the raw value in the reference; None without one.
    """

    n_days: int
    quantity: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of the hours after the last day: no detector looks at them.

    Attributes:
        first: The first hour, as ``2026-08-01T09``, UTC; `last` is the last one.
        n_hours: Hours with figures.
        n_rides: Rides with a prediction.
        n_judged: Rides with an outcome that count: all that follows is about these; None if there are none.
        rmse_raw: Of the forest's own minutes; the others are of what was published.
    """

    first: str
    last: str
    n_hours: int
    n_rides: int
    n_judged: int
    rmse_raw: float | None = None
    rmse_served: float | None = None
    bias_served: float | None = None
    coverage_served: float | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is to be sent to EventBridge.

    Attributes:
        event_id: The same whenever the event is sent: receivers may see it more than once.
        time: When it happened, ISO 8601 in UTC.
        detail_type: "ridecast monitor state change" or "ridecast channel move".
        detail: The event's detail, flat.
    """

    event_id: str
    time: str
    detail_type: str
    detail: dict[str, str | float | None] = {}


class MonitorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state of monitoring.

    Attributes:
        written_at: ISO 8601 in UTC.
        channel: The channel whose model is monitored.
        model_version: Of the channel's newest segment that serves, without calibration; None without a model.
        served_version: The same with its calibration.
        last_day: The last day with figures; None if there is none.
        n_days: Days of this model with figures.
        latest: The hours after the last day; None if there are none.
        last_judged: The last hour that has a judged ride, as ``2026-08-01T09``, UTC; None if there was none.
        missing: What monitoring lacks, a sentence each.
        inputs: The digest of what groups, quantities, last days and `missing` follow from: they are the same until it
            changes.
        run_id: Random: two runs never write the same bytes.
        announced: The key of the last history entry that events were made of, by channel.
        pending: Events that are not sent yet.
    """

    format: int = STATUS_FORMAT
    written_at: str
    channel: str
    model_version: str | None = None
    served_version: str | None = None
    last_day: date | None = None
    n_days: int = 0
    groups: tuple[GroupStatus, ...] = ()
    quantities: tuple[QuantityStatus, ...] = ()
    recent: tuple[Recent, ...] = ()
    calibration: CalibrationStatus = UNKNOWN_CALIBRATION
    latest: Latest | None = None
    last_judged: str | None = None
    missing: tuple[str, ...] = ()
    inputs: str = ""
    run_id: str = ""
    announced: dict[str, str] = {}
    pending: tuple[Event, ...] = ()


class _Stored(msgspec.Struct):
    format: int


_decode_format = msgspec.json.Decoder(_Stored).decode
_decode = msgspec.json.Decoder(MonitorStatus).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class DamagedStatusError(BucketError):
    """A status that does not decode; the next run of the monitor writes a new one.

    Attributes:
        etag: Of the object.
    """

    def __init__(self, bucket: str, problem: str, etag: str) -> None:
        self.etag = etag
        super().__init__(bucket, STATUS_KEY, f"is no status ({problem}): the next run of the monitor writes a new one")


class StoredStatus(NamedTuple):
    """A status as it was read; None twice if monitoring has not run yet."""

    status: MonitorStatus | None
    etag: str | None


def read_status(bucket: Bucket) -> StoredStatus:
    """Read the newest status, with what is needed to replace it.

    Raises:
        DamagedStatusError: The object does not decode.
        BucketError: S3 fails, or a later version of ridecast wrote the object.
    """
    stored = bucket.read(STATUS_KEY)
    if stored is None:
        return StoredStatus(None, None)
    try:
        found = _decode_format(stored.body).format
        if found == STATUS_FORMAT:
            status = _decode(stored.body)
            _check_times(status)
            return StoredStatus(status, stored.etag)
    except (msgspec.DecodeError, UserError, ValueError) as error:
        raise DamagedStatusError(bucket.name, str(error), stored.etag) from error
    problem = f"has format {found}, and this version of ridecast reads {STATUS_FORMAT}: use the version that wrote it"
    raise BucketError(bucket.name, STATUS_KEY, problem)


def _check_times(status: MonitorStatus) -> None:
    """Check that the times are times: an event whose time is none could never be sent.

    Raises:
        ValueError: One is no aware time.
        UserError: `last_judged` is no hour.
    """
    for text in (status.written_at, *(event.time for event in status.pending)):
        if datetime.fromisoformat(text).tzinfo is None:
            raise ValueError(f"{text!r} has no time zone")
    if status.last_judged is not None:
        Hour.parse(status.last_judged)


def load_status(bucket: Bucket) -> MonitorStatus | None:
    """Return the newest status; None if monitoring has not run yet. It raises what `read_status` does."""
    return read_status(bucket).status


def encode_status(status: MonitorStatus) -> bytes:
    """Encode a status as JSON with its keys sorted."""
    return _encode(status) + b"\n"


def save_status(bucket: Bucket, status: MonitorStatus, etag: str | None) -> str | None:
    """Store a status if nobody else has since the one before was read; return its ETag, None if somebody has.

    Raises:
        BucketError: S3 fails.
    """
    return bucket.replace(STATUS_KEY, encode_status(status), etag)
