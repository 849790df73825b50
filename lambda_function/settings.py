"""The function's settings: the only reader of the environment."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lambda_function.errors import ConfigurationError

JSON, KPL = "json", "kpl"
OUTPUT_FORMATS = (JSON, KPL)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

REQUIRED = ("OUTPUT_STREAM", "BUCKET", "MODEL_CHANNEL")
"""What has no default."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the template sets.

    Attributes:
        output_stream: Name of the stream that predictions go to.
        bucket: Name of the bucket with channels/, models/ and rejects/.
        model_channel: The channel to follow, as in ``stable``.
        model_refresh_s: Seconds between two looks at the channel.
        deadline_margin_ms: Milliseconds before Lambda's timeout in which no new PutRecords is started: long enough
            for one that hangs and for storing the rejects after it (`clients.py` adds it up).
        output_format: ``json``, a record a prediction, or ``kpl``, many predictions packed into one record.
        output_groups: With ``kpl``, how many groups partition keys are dealt out to: as many as the output stream
            has shards, or a multiple of it.
        service_name: Names the logs and the metrics.
        metrics_namespace: CloudWatch's.
        log_level: As `logging` spells it.
    """

    output_stream: str
    bucket: str
    model_channel: str
    model_refresh_s: float = 60.0
    deadline_margin_ms: int = 15_000
    output_format: str = JSON
    output_groups: int = 1
    service_name: str = "ridecast"
    metrics_namespace: str = "ridecast"
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads and checks every setting.

        Raises:
            ConfigurationError: Some are missing, and all of them are named; or one makes no sense.
        """
        missing = [name for name in REQUIRED if not _text(environment, name, "")]
        if missing:
            raise ConfigurationError(", ".join(missing), "is missing: set it in template.yaml, under Environment")
        return cls(
            output_stream=environment["OUTPUT_STREAM"].strip(),
            bucket=environment["BUCKET"].strip(),
            model_channel=environment["MODEL_CHANNEL"].strip(),
            model_refresh_s=_positive(environment, "MODEL_REFRESH_S", cls.model_refresh_s),
            deadline_margin_ms=math.ceil(_positive(environment, "DEADLINE_MARGIN_MS", cls.deadline_margin_ms)),
            output_format=_one_of(environment, "OUTPUT_FORMAT", cls.output_format, OUTPUT_FORMATS),
            output_groups=math.ceil(_positive(environment, "OUTPUT_GROUPS", cls.output_groups)),
            service_name=_text(environment, "POWERTOOLS_SERVICE_NAME", cls.service_name),
            metrics_namespace=_text(environment, "POWERTOOLS_METRICS_NAMESPACE", cls.metrics_namespace),
            log_level=_one_of(environment, "LOG_LEVEL", cls.log_level, LOG_LEVELS),
        )


def _text(environment: Mapping[str, str], name: str, default: str) -> str:
    return environment.get(name, "").strip() or default


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    text = _text(environment, name, str(default))
    try:
        value = float(text)
    except ValueError as error:
        raise ConfigurationError(name, f"is {text!r}: want a number") from error
    if not 0 < value < float("inf"):
        raise ConfigurationError(name, f"is {text!r}: want a number above 0")
    return value


def _one_of(environment: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    text = _text(environment, name, default)
    found = {choice.casefold(): choice for choice in choices}.get(text.casefold())
    if found is None:
        raise ConfigurationError(name, f"is {text!r}: want {', '.join(choices[:-1])} or {choices[-1]}")
    return found
