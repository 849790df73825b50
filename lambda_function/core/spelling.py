"""Ride events and outcomes whose numbers are spelt otherwise: ``130.0`` for 130, ``"3.66"`` for 3.66.

Producers that keep rides in data frames or warehouses write zones and ids as floats, and distances as text.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

_MAX_DIGITS = 4_300  # of an integer that Python decodes from JSON
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,9}))?")
_NUMBER_IN_TEXT = re.compile(rb'"((?:0|[1-9][0-9]{0,99})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)"')  # always finite
_WHOLE_IN_TEXT = re.compile(r"([0-9]+)\.0+", re.ASCII)

_Value = msgspec.Raw | msgspec.UnsetType


class _Outcome(msgspec.Struct):
    """The fields of an outcome, each as it is written."""

    ride_duration: _Value = msgspec.UNSET
    dropoff_datetime: _Value = msgspec.UNSET
    pickup_datetime: _Value = msgspec.UNSET


class _OutcomeMessage(msgspec.Struct):
    outcome: _Outcome | msgspec.UnsetType = msgspec.UNSET
    ride_id: _Value = msgspec.UNSET


_decode_outcome = msgspec.json.Decoder(_OutcomeMessage).decode
_encode = msgspec.json.Encoder().encode


def respeller(fields: Iterable[str], whole: Collection[str], numbers: Collection[str]) -> Callable[[bytes], bytes]:
    """Return a function that spells the numbers of a ride event as its decoder takes them.

    Other values stay as they are. The function raises msgspec.DecodeError if data are not JSON, as a ValidationError if
    they are not an object with an object `ride`, and RecursionError if they are nested too deeply.

    Args:
        fields: The names of a ride's fields in JSON. Others are left out.
        whole: Those that are whole numbers.
        numbers: Those that are numbers, and may be text.

    >>> respell = respeller(["zone", "distance"], whole=["zone"], numbers=["distance"])
    >>> respell(b'{"ride": {"zone": 130.0, "distance": "3.66"}, "ride_id": 256.5, "tip": 1}')
    b'{"ride":{"zone":130,"distance":3.66},"ride_id":256.5}'
    """
    optional = [(name, _Value, msgspec.UNSET) for name in fields]
    ride_type = msgspec.defstruct("Ride", optional)
    event_type = msgspec.defstruct(
        "Event",
        [("ride", ride_type | msgspec.UnsetType, msgspec.UNSET), ("ride_id", _Value, msgspec.UNSET)],
    )
    decode = msgspec.json.Decoder(event_type).decode

    def respell(data: bytes) -> bytes:
        event: Any = decode(data)
        event.ride_id = _whole(event.ride_id)
        if event.ride is not msgspec.UNSET:
            for name in whole:
                setattr(event.ride, name, _whole(getattr(event.ride, name)))
            for name in numbers:
                setattr(event.ride, name, _number(getattr(event.ride, name)))
        return _encode(event)

    return respell


def respell_outcome(data: bytes) -> bytes:
    """Return an outcome with its numbers spelt as its decoder takes them; other values stay as they are.

    Raises:
        msgspec.DecodeError: The data are not JSON; as a ValidationError, not an object with an object `outcome`.
        RecursionError: The data are nested too deeply.

    >>> respell_outcome(b'{"outcome": {"ride_duration": "17.4"}, "ride_id": 256.0}')
    b'{"outcome":{"ride_duration":17.4},"ride_id":256}'
    """
    message = _decode_outcome(data)
    message.ride_id = _whole(message.ride_id)
    if isinstance(message.outcome, _Outcome):
        message.outcome.ride_duration = _number(message.outcome.ride_duration)
    return _encode(message)


def whole_in_text(text: str) -> str:
    """Return the digits of a whole number that is written with a fraction of zeros, and any other text unchanged.

    >>> whole_in_text("130.0"), whole_in_text("130.5")
    ('130', '130.5')
    """
    found = _WHOLE_IN_TEXT.fullmatch(text)
    return found[1] if found else text


def number_in_text(text: str) -> float | None:
    """Return the number that a text spells as producers may send it, and None for any other text.

    >>> number_in_text("130"), number_in_text("3.66"), number_in_text("0130")
    (130.0, 3.66, None)
    """
    found = _NUMBER_IN_TEXT.fullmatch(f'"{text}"'.encode(errors="replace"))
    return float(found[1]) if found else None


def _number(value: _Value) -> _Value:
    """Return a number in text as a number, and any other value unchanged."""
    found = _NUMBER_IN_TEXT.fullmatch(bytes(value)) if isinstance(value, msgspec.Raw) else None
    return msgspec.Raw(found[1]) if found else value


def _whole(value: _Value) -> _Value:
    """Return a number without a fraction as an integer, exactly, and any other value unchanged."""
    found = _NUMBER.fullmatch(bytes(value)) if isinstance(value, msgspec.Raw) else None
    if found is None:
        return value
    sign, whole, fraction, exponent = found.groups(b"")
    n_whole = len(whole) + int(exponent or b"0")  # digits before the point
    digits = (whole + fraction).rstrip(b"0")
    if not digits:
        return msgspec.Raw(b"0")
    if not len(digits) <= n_whole <= _MAX_DIGITS:
        return value
    return msgspec.Raw(sign + digits.ljust(n_whole, b"0").lstrip(b"0"))
