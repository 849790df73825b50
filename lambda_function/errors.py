"""The errors of the function, as one tree.

PredictorError
├── RejectError                  the record can never be predicted: it becomes a reject
├── TransientError               may work later: Lambda brings the record again
│   ├── StoreError               S3 did not answer as needed
│   │   └── NoSuchObjectError    it has no such object (model_store.py)
│   │       └── NoModelYetError  the channel is missing: no model has been released yet
│   ├── KmsError                 KMS did not answer as needed
│   └── PublishError             the output stream refuses predictions
├── ChannelError                 bytes that are not a channel which this code can serve
├── BundleError                  this bundle must not be served
│   ├── SignatureError           it is not signed by the key that is trusted
│   └── CalibrationError         its calibration must not serve
├── ForestError                  arrays that do not make a forest
├── ArchiveError                 bytes that are not lines of the archive
├── RequestError                 an HTTP request that cannot be answered as asked
└── ConfigurationError           fails the cold start

Choose behaviour by type. Errors carry facts as attributes and build their own sentence.
"""

from collections.abc import Mapping
from http import HTTPStatus


class PredictorError(Exception):
    """The root of all errors that the function raises."""


class RejectError(PredictorError):
    """A record that can never become a prediction.

    Attributes:
        reason: One of `events.REJECT_REASONS`; it is a metric's dimension, so never free text.
        detail: A sentence that names the field by its path, for example ``$.ride.trip_distance``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class TransientError(PredictorError):
    """Something that may succeed when Lambda brings the record again."""


class StoreError(TransientError):
    """S3 refused, timed out or returned something unexpected."""

    def __init__(self, action: str, bucket: str, key: str, why: str) -> None:
        self.action = action
        self.bucket = bucket
        self.key = key
        self.why = why
        super().__init__(f"cannot {action} s3://{bucket}/{key}: {why}")


class KmsError(TransientError):
    """KMS refused, timed out or returned something unexpected."""

    def __init__(self, action: str, key: str, why: str) -> None:
        self.action = action
        self.key = key
        self.why = why
        super().__init__(f"cannot {action} with the KMS key {key}: {why}")


class PublishError(TransientError):
    """The output stream refused a request with an error that does not pass by itself, and took nothing."""

    def __init__(self, stream: str, code: str, why: str) -> None:
        self.stream = stream
        self.code = code
        self.why = why
        super().__init__(
            f"the stream {stream} refuses predictions with {code}: check that OUTPUT_STREAM names it, that it and its"
            f" key exist, and that the function's role has kinesis:PutRecords on it and may use the key ({why})"
        )


class ChannelError(PredictorError):
    """Bytes that are not a channel.

    Attributes:
        problem: What is wrong, as in ``is damaged: it is nested too deeply``.
        is_too_new: Whether a later version of this code could serve it.
    """

    def __init__(self, problem: str, *, is_too_new: bool = False) -> None:
        self.problem = problem
        self.is_too_new = is_too_new
        super().__init__(f"the channel {problem}")


class BundleError(PredictorError):
    """A model bundle that fails a check.

    Attributes:
        model_version: The version asked for, or "" if it is not known yet.
        file: The file at fault.
        problem: What is wrong with it.
    """

    def __init__(self, model_version: str, file: str, problem: str) -> None:
        self.model_version = model_version
        self.file = file
        self.problem = problem
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        return f"bundle {self.model_version or '(unknown)'}, {self.file}: {self.problem}"


class SignatureError(BundleError):
    """A model bundle that the trusted key has not signed."""


class CalibrationError(BundleError):
    """A calibration that must not serve; `file` is its key."""

    def _sentence(self) -> str:
        return f"{self.file} {self.problem}"


class ForestError(PredictorError):
    """Arrays that do not make a forest."""


class ArchiveError(PredictorError):
    """Bytes that are not lines of the archive."""


class RequestError(PredictorError):
    """An HTTP request, or one ride of it, that cannot be answered; the attributes go to the caller.

    Attributes:
        status: The response's status.
        detail: A sentence for the caller.
        reason: One of `events.REJECT_REASONS`, or "".
        path: The path of the field at fault in the request, or "".
        headers: Additional headers of the response.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        reason: str = "",
        path: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.detail = detail
        self.reason = reason
        self.path = path
        self.headers = headers or {}
        super().__init__(f"{status.value}: {detail}" + (f" - at `{path}`" if path else ""))


class ConfigurationError(PredictorError):
    """A setting that is missing or makes no sense."""

    def __init__(self, setting: str, problem: str) -> None:
        self.setting = setting
        self.problem = problem
        super().__init__(f"setting {setting} {problem}")
