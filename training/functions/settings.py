"""The settings of the functions that run this package; only this file reads their environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lambda_function.aws.settings import CommonSettings, one_of, read_key_arn, read_number
from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.errors import ConfigurationError
from training.monitoring.calibration.status import CalibrationMode


@dataclass(frozen=True, kw_only=True)
class JoinSettings(CommonSettings):
    """The settings of the join.

    Attributes:
        model_channel: The channel that the predicting function follows.
        ride_stream: Name of the stream of ride events.
        outcome_stream: Name of the stream of outcomes.
        model_signing_key: ARN of the KMS key that bundles must be signed with; "" if no signature is needed.
        outcome_delay_minutes: How long after its ride an outcome may arrive and still count in an hour's first pass.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = (
        *CommonSettings.REQUIRED,
        "MODEL_CHANNEL",
        "RIDE_EVENTS_STREAM",
        "RIDE_OUTCOMES_STREAM",
    )

    model_channel: str
    ride_stream: str
    outcome_stream: str
    model_signing_key: str = ""
    outcome_delay_minutes: int = 120

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        delay_minutes = read_number(environment, "OUTCOME_DELAY_MINUTES", cls.outcome_delay_minutes, may_be_zero=True)
        return {
            **super()._read(environment),
            "model_channel": environment["MODEL_CHANNEL"].strip(),
            "ride_stream": environment["RIDE_EVENTS_STREAM"].strip(),
            "outcome_stream": environment["RIDE_OUTCOMES_STREAM"].strip(),
            "model_signing_key": read_key_arn(environment, "MODEL_SIGNING_KEY"),
            "outcome_delay_minutes": round(delay_minutes),
        }


@dataclass(frozen=True, kw_only=True)
class MonitorSettings(CommonSettings):
    """The settings of the monitor.

    Attributes:
        model_channel: The channel whose model is monitored and calibrated.
        calibration_mode: How often it is calibrated.
        model_activation_delay_s: The time that the functions which follow the channel may need to read it.
        model_signing_key: ARN of the KMS key that bundles must be signed with; "" if no signature is needed.
        stack_name: For events; "" outside a stack.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = (*CommonSettings.REQUIRED, "MODEL_CHANNEL")

    model_channel: str
    calibration_mode: CalibrationMode = CalibrationMode.DAILY
    model_activation_delay_s: float = ACTIVATION_DELAY_S
    model_signing_key: str = ""
    stack_name: str = ""

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return {
            **super()._read(environment),
            "model_channel": environment["MODEL_CHANNEL"].strip(),
            "calibration_mode": _calibration_mode(environment.get("CALIBRATION_MODE", "").strip()),
            "model_activation_delay_s": read_number(environment, "MODEL_ACTIVATION_DELAY_S", ACTIVATION_DELAY_S),
            "model_signing_key": read_key_arn(environment, "MODEL_SIGNING_KEY"),
            "stack_name": environment.get("STACK_NAME", "").strip(),
        }


@dataclass(frozen=True, kw_only=True)
class TrainSettings(CommonSettings):
    """The settings of the trainer."""

    model_signing_key: str = ""  # ARN of the KMS key that bundles must be signed with; "" if no signature is needed

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return {
            **super()._read(environment),
            "model_signing_key": read_key_arn(environment, "MODEL_SIGNING_KEY"),
        }


@dataclass(frozen=True, kw_only=True)
class LoopSettings(CommonSettings):
    """The settings of the loop.

    Attributes:
        model_channel: The channel to keep good.
        trainer_function: Name or ARN of the function that trains; `collector_function`, of the one that collects rides.
        calibration_mode: How often the channel is calibrated.
        model_activation_delay_s: The time that the functions which follow the channel may need to read it.
        model_signing_key: ARN of the KMS key that bundles must be signed with; "" if no signature is needed.
        stack_name: For events; "" outside a stack.
        approval: `manual` asks a person before a promotion.
        undecided: What follows when the budget ends without an answer.
        budget_days: Days of comparison with the champion, at most.
        watch_days: Days after a promotion on which it may be rolled back.
        cooldown_days: From the beginning of a run to the next one that the schedule or an alarm may start.
        training_days: Days of labelled rides that a model learns from.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = (
        *CommonSettings.REQUIRED,
        "MODEL_CHANNEL",
        "TRAINER_FUNCTION",
        "COLLECTOR_FUNCTION",
    )

    model_channel: str
    trainer_function: str
    collector_function: str
    calibration_mode: CalibrationMode = CalibrationMode.DAILY
    model_activation_delay_s: float = ACTIVATION_DELAY_S
    model_signing_key: str = ""
    stack_name: str = ""
    approval: Literal["auto", "manual"] = "auto"
    undecided: Literal["keep", "promote"] = "keep"
    budget_days: int = 28
    watch_days: int = 7
    cooldown_days: int = 7
    training_days: int = 365

    @classmethod
    def _read(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return {
            **super()._read(environment),
            "model_channel": environment["MODEL_CHANNEL"].strip(),
            "trainer_function": environment["TRAINER_FUNCTION"].strip(),
            "collector_function": environment["COLLECTOR_FUNCTION"].strip(),
            "calibration_mode": _calibration_mode(environment.get("CALIBRATION_MODE", "").strip()),
            "model_activation_delay_s": read_number(environment, "MODEL_ACTIVATION_DELAY_S", ACTIVATION_DELAY_S),
            "model_signing_key": read_key_arn(environment, "MODEL_SIGNING_KEY"),
            "stack_name": environment.get("STACK_NAME", "").strip(),
            "approval": one_of(environment, "LOOP_APPROVAL", cls.approval, ("auto", "manual")),
            "undecided": one_of(environment, "LOOP_UNDECIDED", cls.undecided, ("keep", "promote")),
            "budget_days": round(read_number(environment, "LOOP_BUDGET_DAYS", cls.budget_days)),
            "watch_days": round(read_number(environment, "LOOP_WATCH_DAYS", cls.watch_days, may_be_zero=True)),
            "cooldown_days": round(read_number(environment, "LOOP_COOLDOWN_DAYS", cls.cooldown_days, may_be_zero=True)),
            "training_days": round(read_number(environment, "TRAINING_DAYS", cls.training_days)),
        }


def _calibration_mode(text: str) -> CalibrationMode:
    if not text:
        return CalibrationMode.DAILY
    try:
        return CalibrationMode(text.casefold())
    except ValueError as error:
        modes = ", ".join(CalibrationMode)
        raise ConfigurationError("CALIBRATION_MODE", f"is {text!r}: want one of {modes}") from error
