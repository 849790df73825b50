"""PutRecords through boto3 without its cost per record: the request body is built, and the answer read, by msgspec.

boto3 still finds the endpoint, signs, sends and turns errors into exceptions. It only gets no records to serialise one
field at a time, and no results to parse one field at a time: its own events are where both are stepped over. Where a
botocore knows none of these events, or another protocol, it does the work itself, as ever.
"""

from http import HTTPStatus
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_RECORDS = "ridecast_records"


class _Result(msgspec.Struct):
    """What became of one record. Its shard and sequence number are nobody's concern here."""

    ErrorCode: str | None = None
    ErrorMessage: str | None = None


class _Summary(msgspec.Struct):
    FailedRecordCount: int = 0


class _Answer(_Summary):
    Records: list[_Result] = []


_decode_summary = msgspec.json.Decoder(_Summary).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def speed_up_put_records(client: Any) -> None:
    """Makes a boto3 Kinesis client's `put_records` cheap.

    Requests and answers keep boto3's shape, but for an answer without failures, whose `Records` is empty, and for
    results, which hold their error alone.
    """
    model = client.meta.service_model
    # The runtime's botocore is not ours to choose: older ones know one protocol a service, and no `resolved_protocol`.
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
    body = response_dict["body"]
    n_failed = _decode_summary(body).FailedRecordCount
    results = _decode_answer(body).Records if n_failed else []
    customized_response_dict["FailedRecordCount"] = n_failed
    customized_response_dict["Records"] = [
        {"ErrorCode": result.ErrorCode, "ErrorMessage": result.ErrorMessage} if result.ErrorCode else {}
        for result in results
    ]
    response_dict["body"] = b"{}"
