"""PutRecords through boto3 without boto3's cost per record: msgspec builds the request body and reads the response.

boto3 still finds the endpoint, signs, sends and raises errors. Handlers of its own events replace only its
serialisation of each record and its parsing of each result. A botocore without these events, or with another protocol,
does the work itself.
"""

from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_RECORDS = "ridecast_records"


class _Taken(msgspec.Struct, gc=False):
    """The result for a record that the stream has taken. Its shard and sequence number are not needed."""

    ErrorCode: None = None


class _Result(msgspec.Struct):
    """The result for any record."""

    ErrorCode: str | None = None
    ErrorMessage: str | None = None


class _AllTaken(msgspec.Struct):
    FailedRecordCount: int
    Records: list[_Taken]


class _Answer(msgspec.Struct):
    FailedRecordCount: int
    Records: list[_Result]


_decode_all_taken = msgspec.json.Decoder(_AllTaken).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def speed_up_put_records(client: Any) -> None:
    """Make a boto3 Kinesis client's `put_records` cheap.

    Requests and responses keep boto3's shape, with two differences: a result holds only its error, and a response that
    is cut off has neither `FailedRecordCount` nor `Records`.
    """
    model = client.meta.service_model
    # The Lambda runtime chooses the botocore version; older versions have no `resolved_protocol`.
    if getattr(model, "resolved_protocol", model.protocol) != "json":
        return
    events = client.meta.events
    events.register("provide-client-params.kinesis.PutRecords", _take_records)
    events.register("before-call.kinesis.PutRecords", _build_body)
    events.register("before-parse.kinesis.PutRecords", _read_answer)


def _take_records(params: dict[str, Any], context: dict[str, Any], **_: object) -> dict[str, Any]:
    context[_RECORDS] = params["Records"]
    return {**params, "Records": []}


def _build_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    request = msgspec.json.decode(params["body"])
    params["body"] = _encode({**request, "Records": context[_RECORDS]})  # bytes become base64


def _read_answer(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    with suppress(msgspec.DecodeError, UnicodeDecodeError):  # a body that is cut off confirms nothing
        customized_response_dict.update(_read_body(response_dict["body"]))
    response_dict["body"] = b"{}"


def _read_body(body: bytes) -> dict[str, Any]:
    """Return the answer in boto3's shape; usually no result has an error, and then one pass finds that out."""
    try:
        taken = _decode_all_taken(body)
    except msgspec.ValidationError:
        answer = _decode_answer(body)
        results = [
            {"ErrorCode": result.ErrorCode, "ErrorMessage": result.ErrorMessage} if result.ErrorCode else {}
            for result in answer.Records
        ]
        return {"FailedRecordCount": answer.FailedRecordCount, "Records": results}
    return {"FailedRecordCount": taken.FailedRecordCount, "Records": [{}] * len(taken.Records)}
