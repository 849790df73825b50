"""Lambda's calls for durable executions, which moto lacks: checkpoints are accepted, and answers kept until taken.

No execution runs in moto: infra/local/runtime/loop.py runs the loop, and takes the answers.
"""

import json
import threading
from typing import Any
from urllib.parse import unquote

from moto.awslambda import urls
from moto.awslambda.responses import LambdaResponse
from moto.moto_api._internal import urls as own_urls

ANSWERS_PATH = "/moto-api/durable-answers"
"""Where the answers are taken: a JSON list of callback id, whether it is a success, and the text of the answer."""

_LAMBDA_PATH = r"{0}/(?P<api_version>[^/]+)"
_answers: list[tuple[str, bool, str]] = []
_lock = threading.Lock()


def callback_id(execution_arn: str, question: str) -> str:
    """Return an id by which a question of an execution is answered. As AWS's, it names the execution.

    >>> execution_and_question(callback_id("arn:aws:lambda:r:1:function:f:3/durable-execution/n/i", "train"))
    ('arn:aws:lambda:r:1:function:f:3/durable-execution/n/i', 'train')
    """
    return f"{execution_arn} {question}".encode().hex()


def execution_and_question(callback_id: str) -> tuple[str, str]:
    """Return what a callback id names; a ValueError if it is none."""
    execution_arn, _, question = bytes.fromhex(callback_id).decode().partition(" ")
    return execution_arn, question


def patch_durable_calls() -> None:
    """Add the calls to moto, in the whole process; call it before moto creates its applications."""
    LambdaResponse.checkpoint_durable_execution = _checkpoint
    LambdaResponse.get_durable_execution_state = _state
    LambdaResponse.send_durable_execution_callback_success = _succeed
    LambdaResponse.send_durable_execution_callback_failure = _fail
    for path, verbs in (
        ("durable-executions/(?P<execution_arn>.+)", ("checkpoint", "state")),
        ("durable-execution-callbacks/(?P<callback_id>[^/]+)", ("succeed", "fail")),
    ):
        urls.url_paths |= {f"{_LAMBDA_PATH}/{path}/{verb}$": LambdaResponse.dispatch for verb in verbs}
    own_urls.url_paths[f"{{0}}{ANSWERS_PATH}"] = _take_answers


def _checkpoint(_: LambdaResponse) -> str:
    return json.dumps({"CheckpointToken": "next"})


def _state(_: LambdaResponse) -> str:
    return json.dumps({"Operations": []})


def _succeed(response: LambdaResponse) -> str:
    _keep(response, is_success=True)
    return "{}"


def _fail(response: LambdaResponse) -> str:
    _keep(response, is_success=False)
    return "{}"


def _keep(response: LambdaResponse, *, is_success: bool) -> None:
    body = response.body
    text = body.decode() if isinstance(body, bytes) else str(body)
    with _lock:
        _answers.append((unquote(response.path.rsplit("/", 2)[-2]), is_success, text))


def _take_answers(*_: Any) -> tuple[int, dict[str, str], str]:
    with _lock:
        taken = list(_answers)
        _answers.clear()
    return 200, {}, json.dumps(taken)
