"""A fake of Lambda's client: it invokes a function in this process, and its answers are scripted."""

import base64
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from botocore.model import ServiceId

from tests.outcomes import AnswerLost


@dataclass(frozen=True, slots=True)
class Payload:
    """The function is not run, and this is its answer; with the kind of an error, it failed."""

    body: bytes
    function_error: str = ""


@dataclass(frozen=True, slots=True)
class OpenFrom:
    """The function finishes only the records before this position of the batch."""

    position: int


InvokeOutcome = Exception | AnswerLost | Payload | OpenFrom | None


class FakeLambda:
    """A boto3 client of Lambda.

    Args:
        function: Handles an event.
        script: The outcomes of the 1st, 2nd, … invocation; None, and the end of the list, for one that works.

    Attributes:
        events: The events so far.
        names: The functions' names so far.
        meta: Takes boto3's event handlers, and calls none.
    """

    meta = SimpleNamespace(
        events=SimpleNamespace(register=lambda *_: None, register_first=lambda *_: None),
        service_model=SimpleNamespace(service_id=ServiceId("Lambda")),
    )

    def __init__(self, function: Callable[[dict[str, Any]], object], script: Iterable[InvokeOutcome] = ()) -> None:
        self.script = list(script)
        self.events: list[dict[str, Any]] = []
        self.names: list[str] = []
        self._function = function

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Invoke the function, by the script."""
        event = json.loads(Payload)
        self.events.append(event)
        self.names.append(FunctionName)
        outcome = self.script.pop(0) if self.script else None
        if isinstance(outcome, Exception):
            raise outcome
        answer = self._answer(event, outcome)
        if isinstance(outcome, AnswerLost):
            raise outcome.error()
        return answer

    def _answer(self, event: dict[str, Any], outcome: InvokeOutcome) -> dict[str, Any]:
        if isinstance(outcome, Payload):
            error = {"FunctionError": outcome.function_error} if outcome.function_error else {}
            return {"Payload": io.BytesIO(outcome.body), **error}
        records = event["Records"]
        n_done = outcome.position if isinstance(outcome, OpenFrom) else len(records)
        try:
            body: Any = self._function({**event, "Records": records[:n_done]})
        except Exception as error:  # noqa: BLE001 - a function that fails is an answer
            body = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"Payload": io.BytesIO(json.dumps(body).encode()), "FunctionError": "Unhandled"}
        if n_done < len(records):
            body = {**body, "batchItemFailures": [{"itemIdentifier": records[n_done]["kinesis"]["sequenceNumber"]}]}
        return {"Payload": io.BytesIO(json.dumps(body).encode())}


@dataclass(slots=True)
class EchoFunction:
    """A function that publishes each record's data under its event id, and rejects those in `rejects`."""

    rejects: set[str] = field(default_factory=set)
    published: list[tuple[str, bytes]] = field(default_factory=list)

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """Handle a replay."""
        rejected = [record["eventID"] for record in event["Records"] if record["eventID"] in self.rejects]
        self.published += [
            (record["eventID"], base64.b64decode(record["kinesis"]["data"]))
            for record in event["Records"]
            if record["eventID"] not in self.rejects
        ]
        return {"batchItemFailures": [], "ridecast": {"rejected": rejected}}
