"""Treat an answer of AWS that was cut off as one that was lost: retry it, and fail if it stays.

An answer with status 200 and an empty or half body would otherwise read as an empty one: no alarm, no reject, no field.
The page of a proxy in place of AWS's error is treated in the same way: botocore cannot parse it.
"""

from typing import Any
from xml.parsers import expat

import msgspec

_LOST = 500
_CODE = "CutOffAnswer"

_JSON = {"json", "rest-json"}
_XML = {"query", "ec2", "rest-xml"}
_NOT_IN_BODY = {"header", "headers", "statusCode"}


def retry_cut_off_answers(client: Any) -> None:
    """Make a boto3 client retry cut off answers as it retries a fault of AWS; the last one is a ClientError."""
    client.meta.events.register("before-parse", _mark)
    # The rules of retries are registered for the service, and what is for the service runs before what is for all.
    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register_first(f"needs-retry.{service}", _take_over_status)


def is_cut_off(body: bytes, protocol: str) -> bool:
    """Return whether the body of an answer that has one is not complete.

    Bodies in CBOR are checked for emptiness only, because botocore refuses half ones.

    >>> is_cut_off(b'{"Records": []}', "json"), is_cut_off(b'{"Records": [', "json"), is_cut_off(b"", "query")
    (False, True, True)
    """
    if not body.strip():
        return True
    try:
        if protocol in _JSON:
            msgspec.json.decode(body, type=msgspec.Raw)
        elif protocol in _XML:
            expat.ParserCreate().Parse(body, True)
    except (msgspec.DecodeError, expat.ExpatError):
        return True
    return False


def _mark(operation_model: Any, response_dict: Any, customized_response_dict: Any, **_: object) -> None:
    """Turn an answer that was cut off, or a page of a proxy, into one with a server's error."""
    protocol = operation_model.service_model.resolved_protocol
    is_error = response_dict["status_code"] >= 300  # noqa: PLR2004 - HTTP
    body = response_dict["body"]
    # An error in JSON needs no check: botocore takes any other text as its message.
    if not (body and protocol in _XML if is_error else _has_body(operation_model)):
        return
    if is_cut_off(body, protocol):
        response_dict.update(status_code=_LOST, body=b"")
        problem = "the answer is not AWS's own" if is_error else "the answer was cut off"
        customized_response_dict["Error"] = {"Code": _CODE, "Message": problem}


def _has_body(operation_model: Any) -> bool:
    """Return whether an operation answers with a body that botocore reads at once."""
    shape = operation_model.output_shape
    if shape is None or operation_model.has_streaming_output or operation_model.http["method"] == "HEAD":
        return False
    return any(member.serialization.get("location") not in _NOT_IN_BODY for member in shape.members.values())


def _take_over_status(response: Any, **_: object) -> None:
    """Give the answer the status that it was turned into; the rules of retries read it there."""
    if response is not None:
        answer, parsed = response
        if parsed.get("Error", {}).get("Code") == _CODE:
            answer.status_code = _LOST
