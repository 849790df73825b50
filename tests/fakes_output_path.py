"""An account with one version of the function and its output path, as the hook's clients of AWS see them."""

from dataclasses import dataclass, field
from typing import Any

from lambda_function.aws.output_path import OutputPath
from tests.fakes import BUCKET
from training.registry.folder_s3 import client_error

NEW_VERSION = "arn:aws:lambda:eu-west-1:123456789012:function:ridecast-Predictor:7"
ROLE = "arn:aws:iam::123456789012:role/ridecast-PredictorRole"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a1b"
STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/ride-predictions"
VARIABLES = {
    "OUTPUT_STREAM": "ride-predictions",
    "BUCKET": BUCKET,
    "MODEL_CHANNEL": "stable",
    "REJECTS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/rejects",
}
"""The version's settings."""


@dataclass
class FakeAccount:
    """The calls of Lambda, Kinesis, KMS and IAM that the check makes.

    Attributes:
        simulated: What was simulated: action, resource and values of condition keys.
    """

    variables: dict[str, str] = field(default_factory=lambda: dict(VARIABLES))
    stream_status: str = "ACTIVE"
    key_id: str = KEY  # "" for a stream that is not encrypted
    key_state: str = "Enabled"
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)  # by action; all others are allowed
    errors: dict[str, Exception] = field(default_factory=dict)  # by method
    simulated: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def output_path(self) -> OutputPath:
        """Return the check with this account."""
        return OutputPath(self, self, self, self)

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        """Describe the version."""
        self._fail("get_function_configuration")
        assert FunctionName == NEW_VERSION
        return {"Role": ROLE, "Environment": {"Variables": self.variables}}

    def describe_stream_summary(self, *, StreamARN: str) -> dict[str, Any]:  # noqa: N803
        """Describe the only stream."""
        self._fail("describe_stream_summary")
        if StreamARN != STREAM:
            raise client_error(400, "ResourceNotFoundException")
        encryption = {"EncryptionType": "KMS", "KeyId": self.key_id} if self.key_id else {"EncryptionType": "NONE"}
        return {"StreamDescriptionSummary": {"StreamStatus": self.stream_status, **encryption}}

    def describe_key(self, *, KeyId: str) -> dict[str, Any]:  # noqa: N803
        """Describe the only key."""
        self._fail("describe_key")
        if KeyId != KEY:
            raise client_error(400, "NotFoundException")
        return {"KeyMetadata": {"Arn": KEY, "KeyState": self.key_state}}

    def list_resource_tags(self, *, KeyId: str) -> dict[str, Any]:  # noqa: N803
        """Return the key's tags."""
        self._fail("list_resource_tags")
        assert KeyId == KEY
        return {"Tags": [{"TagKey": "project", "TagValue": "ridecast"}], "Truncated": False}

    def simulate_principal_policy(
        self,
        *,
        PolicySourceArn: str,  # noqa: N803
        ActionNames: list[str],  # noqa: N803
        ResourceArns: list[str],  # noqa: N803
        ContextEntries: list[dict[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        """Decide on one action."""
        self._fail("simulate_principal_policy")
        assert PolicySourceArn == ROLE
        (action,), (resource,) = ActionNames, ResourceArns
        context = {one["ContextKeyName"]: one["ContextKeyValues"][0] for one in ContextEntries}
        self.simulated.append((action, resource, context))
        decision = self.decisions.get(action, {"EvalDecision": "allowed"})
        return {"EvaluationResults": [{"EvalActionName": action, "EvalResourceName": resource, **decision}]}

    def _fail(self, method: str) -> None:
        if method in self.errors:
            raise self.errors[method]
