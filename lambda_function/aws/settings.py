"""The functions' settings. Only this file and `training/functions/settings.py` read the environment."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lambda_function.aws.signature import KEY_ARN
from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, stream_of_arn
from lambda_function.errors import ConfigurationError

JSON, KPL = "json", "kpl"
OUTPUT_FORMATS = (JSON, KPL)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_STREAMS = {"RIDE_EVENTS_STREAM": RIDES, "RIDE_PREDICTIONS_STREAM": PREDICTIONS, "RIDE_OUTCOMES_STREAM": OUTCOMES}
ACTIVATION_MARGIN_S = 10.0
"""Beyond two refreshes, one of which may fail: for the refresh itself, and for clocks that differ."""


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """The settings of every function in the package."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("BUCKET",)
    """Variables without a default."""

    bucket: str  # name of the bucket with archive/, channels/, models/ and rejects/
    service_name: str = "ridecast"  # the service in logs and metrics
    metrics_namespace: str = "ridecast"  # the namespace in CloudWatch
    log_level: str = "INFO"  # as `logging` spells it

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read and check every setting.

        Raises:
            ConfigurationError: Settings are missing (all are named), or one has a value that makes no sense.
        """
        missing = [name for name in cls.REQUIRED if not _text(environment, name, "")]
        if missing:
            raise ConfigurationError(", ".join(missing), "is missing: set it in template.yaml, under Environment")
        return cls(**cls._read(environment))

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return {
            "bucket": environment["BUCKET"].strip(),
            "service_name": _text(environment, "POWERTOOLS_SERVICE_NAME", cls.service_name),
            "metrics_namespace": _text(environment, "POWERTOOLS_METRICS_NAMESPACE", cls.metrics_namespace),
            "log_level": one_of(environment, "LOG_LEVEL", cls.log_level, LOG_LEVELS),
        }


@dataclass(frozen=True, kw_only=True)
class ServingSettings(CommonSettings):
    """The settings of every function that predicts, or tries one that does."""

    REQUIRED: ClassVar[tuple[str, ...]] = (*CommonSettings.REQUIRED, "MODEL_CHANNEL")

    model_channel: str  # the channel to follow, for example ``stable``
    model_refresh_s: float = 60.0  # seconds between two reads of the channel
    model_activation_delay_s: float = ACTIVATION_DELAY_S  # seconds from a promotion to the first record it serves
    model_signing_key: str = ""  # ARN of the KMS key that bundles must be signed with; "" if no signature is needed

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        refresh_s = read_number(environment, "MODEL_REFRESH_S", cls.model_refresh_s)
        return {
            **super()._read(environment),
            "model_channel": environment["MODEL_CHANNEL"].strip(),
            "model_refresh_s": refresh_s,
            "model_activation_delay_s": _activation_delay_s(environment, refresh_s),
            "model_signing_key": read_key_arn(environment, "MODEL_SIGNING_KEY"),
        }


@dataclass(frozen=True, kw_only=True)
class Settings(ServingSettings):
    """The settings of the function on the stream.

    Attributes:
        output_stream: Name of the stream that predictions go to.
        rejects_queue_url: URL of the SQS queue for rejects that the bucket does not take; "" if there is none.
        deadline_margin_ms: Milliseconds before Lambda's timeout in which no PutRecords starts: enough for one that
            hangs. Storing rejects, which comes before, starts no request in one and a half times as many: enough for S3
            to hang (`clients.py` has the sums).
        output_format: ``json``, one record per prediction, or ``kpl``, many predictions packed into one record.
        output_groups: With ``kpl``, the number of groups of partition keys: as many as the output stream has shards,
            or a multiple of that.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("OUTPUT_STREAM", *ServingSettings.REQUIRED)

    output_stream: str
    rejects_queue_url: str = ""
    deadline_margin_ms: int = 7_000
    output_format: str = JSON
    output_groups: int = 1

    @property
    def packed_groups(self) -> int:
        """The number of groups to pack predictions into; 0 to publish each prediction as a record."""
        return self.output_groups if self.output_format == KPL else 0

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return {
            **super()._read(environment),
            "output_stream": environment["OUTPUT_STREAM"].strip(),
            "rejects_queue_url": _text(environment, "REJECTS_QUEUE_URL", cls.rejects_queue_url),
            "deadline_margin_ms": math.ceil(read_number(environment, "DEADLINE_MARGIN_MS", cls.deadline_margin_ms)),
            "output_format": one_of(environment, "OUTPUT_FORMAT", cls.output_format, OUTPUT_FORMATS),
            "output_groups": math.ceil(read_number(environment, "OUTPUT_GROUPS", cls.output_groups)),
        }


@dataclass(frozen=True, kw_only=True)
class PreTrafficSettings(ServingSettings):
    """The settings of the hook that tries a new version before it gets traffic."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("NEW_VERSION", *ServingSettings.REQUIRED)

    new_version: str  # ARN of the version to try

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return {**super()._read(environment), "new_version": environment["NEW_VERSION"].strip()}


@dataclass(frozen=True, kw_only=True)
class ArchiveSettings(CommonSettings):
    """The settings of the archive. A stream is given by its name or its ARN."""

    REQUIRED: ClassVar[tuple[str, ...]] = (*CommonSettings.REQUIRED, *_STREAMS)

    kinds: Mapping[str, str]  # the kinds of records by the stream's name

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        kinds: dict[str, str] = {}
        for variable, kind in _STREAMS.items():
            text = environment[variable].strip()
            name = stream_of_arn(text) or text
            if name in kinds:
                raise ConfigurationError(variable, f"is {text!r}: another setting names this stream")
            kinds[name] = kind
        return {**super()._read(environment), "kinds": kinds}


def is_snapshotted(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether Lambda takes a snapshot (SnapStart) of this start."""
    return environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def _text(environment: Mapping[str, str], name: str, default: str) -> str:
    return environment.get(name, "").strip() or default


def read_number(environment: Mapping[str, str], name: str, default: float, *, may_be_zero: bool = False) -> float:
    """Return a number above 0, or from 0 on.

    Raises:
        ConfigurationError: The variable has another value.
    """
    text = _text(environment, name, str(default))
    try:
        value = float(text)
    except ValueError as error:
        raise ConfigurationError(name, f"is {text!r}: want a number") from error
    if not 0 <= value < float("inf") or (value == 0 and not may_be_zero):
        raise ConfigurationError(name, f"is {text!r}: want a number {'from 0 on' if may_be_zero else 'above 0'}")
    return value


def _activation_delay_s(environment: Mapping[str, str], refresh_s: float) -> float:
    name = "MODEL_ACTIVATION_DELAY_S"
    delay_s, least_s = read_number(environment, name, ACTIVATION_DELAY_S), 2 * refresh_s + ACTIVATION_MARGIN_S
    if delay_s < least_s:
        problem = f"is {delay_s:g}: want at least {least_s:g}, twice MODEL_REFRESH_S and {ACTIVATION_MARGIN_S:g} s"
        raise ConfigurationError(name, problem)
    return delay_s


def read_key_arn(environment: Mapping[str, str], name: str) -> str:
    """Return the ARN of a KMS key; "" if the variable has none.

    Raises:
        ConfigurationError: The variable has another value.
    """
    text = _text(environment, name, "")
    if text and not KEY_ARN.fullmatch(text):
        example = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        raise ConfigurationError(name, f"is {text!r}: want the ARN of a KMS key, as in {example}")
    return text


def one_of(environment: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    """Read one of several words, in any case, and return it as `choices` spell it."""
    text = _text(environment, name, default)
    found = {choice.casefold(): choice for choice in choices}.get(text.casefold())
    if found is None:
        raise ConfigurationError(name, f"is {text!r}: want {', '.join(choices[:-1])} or {choices[-1]}")
    return found
