"""Answer a run of the loop by its durable callback."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from botocore.exceptions import ClientError

from lambda_function.aws.clients import AWS_ERRORS
from training.errors import UserError

_NOBODY_WAITS = {"CallbackTimeoutException", "ResourceNotFoundException"}
"""The callback has expired or was answered before, or its execution is gone."""

_MAX_MESSAGE = 4_000  # characters: far below what a checkpoint holds


class CallbackError(UserError):
    """A callback could not be sent."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"the run of the loop could not be answered: {error}", "the function is invoked again")


class Callbacks(Protocol):
    """Answers by callback id. Both methods return whether somebody waited for the answer."""

    def succeed(self, callback_id: str, answer: msgspec.Struct) -> bool:
        """Send an answer.

        Raises:
            CallbackError: It was not sent.
        """

    def fail(self, callback_id: str, error: Exception) -> bool:
        """Send an error.

        Raises:
            CallbackError: It was not sent.
        """


class LambdaCallbacks:
    """Callbacks of durable functions. The client sends a request again that failed on the way."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def succeed(self, callback_id: str, answer: msgspec.Struct) -> bool:
        """Send an answer as JSON."""
        return self._send(
            self._client.send_durable_execution_callback_success,
            CallbackId=callback_id,
            Result=msgspec.json.encode(answer),
        )

    def answer(self, callback_id: str, answer: Mapping[str, Any]) -> bool:
        """Send an answer that is no struct, such as a person's."""
        send = self._client.send_durable_execution_callback_success
        return self._send(send, CallbackId=callback_id, Result=msgspec.json.encode(answer))

    def fail(self, callback_id: str, error: Exception) -> bool:
        """Send the name of an error's class and its text. The durable SDK gives the run the data, but not the type."""
        kind = type(error).__name__
        sent = {"ErrorType": kind, "ErrorData": kind, "ErrorMessage": str(error)[:_MAX_MESSAGE]}
        return self._send(self._client.send_durable_execution_callback_failure, CallbackId=callback_id, Error=sent)

    def _send(self, send: Any, **request: Any) -> bool:
        try:
            send(**request)
        except AWS_ERRORS as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in _NOBODY_WAITS:
                return False
            raise CallbackError(error) from error
        return True
