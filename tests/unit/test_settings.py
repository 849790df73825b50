"""Settings: each that is missing or makes no sense is named."""

import pytest

from lambda_function.aws.settings import Settings
from lambda_function.errors import ConfigurationError

REQUIRED = {"OUTPUT_STREAM": "ride-predictions", "BUCKET": "bucket", "MODEL_CHANNEL": "stable"}


def test_required_settings_are_enough() -> None:
    assert Settings.from_env(REQUIRED) == Settings(
        output_stream="ride-predictions", bucket="bucket", model_channel="stable"
    )


def test_all_settings_are_read() -> None:
    optional = {
        "MODEL_REFRESH_S": "2.5",
        "DEADLINE_MARGIN_MS": "9000",
        "POWERTOOLS_SERVICE_NAME": "taxi",
        "POWERTOOLS_METRICS_NAMESPACE": "city",
        "LOG_LEVEL": "debug",
    }
    assert Settings.from_env({**REQUIRED, **optional, "PATH": "/bin"}) == Settings(
        output_stream="ride-predictions",
        bucket="bucket",
        model_channel="stable",
        model_refresh_s=2.5,
        deadline_margin_ms=9000,
        service_name="taxi",
        metrics_namespace="city",
        log_level="DEBUG",
    )


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", " \n"])
def test_missing_setting_is_named_with_what_to_do(name: str, value: str | None) -> None:
    environment = {**REQUIRED, name: value}
    with pytest.raises(ConfigurationError, match=f"setting {name} is missing: set it in template.yaml") as raised:
        Settings.from_env({key: text for key, text in environment.items() if text is not None})
    assert raised.value.setting == name


def test_all_missing_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match="setting OUTPUT_STREAM, BUCKET, MODEL_CHANNEL is missing"):
        Settings.from_env({})


@pytest.mark.parametrize("name", ["MODEL_REFRESH_S", "DEADLINE_MARGIN_MS"])
@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e999", "0x10"])
def test_number_that_makes_no_sense_is_named_and_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"setting {name} is '{value}': want a number"):
        Settings.from_env({**REQUIRED, name: value})


def test_margin_in_parts_of_a_millisecond_is_rounded_up() -> None:
    assert Settings.from_env({**REQUIRED, "DEADLINE_MARGIN_MS": "0.5"}).deadline_margin_ms == 1


@pytest.mark.parametrize(
    "name",
    ["MODEL_REFRESH_S", "DEADLINE_MARGIN_MS", "LOG_LEVEL", "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"],
)
def test_empty_optional_setting_is_as_good_as_none(name: str) -> None:
    assert Settings.from_env({**REQUIRED, name: ""}) == Settings.from_env(REQUIRED)


def test_unknown_log_level_is_named() -> None:
    with pytest.raises(ConfigurationError, match="LOG_LEVEL is 'loud': want DEBUG, INFO"):
        Settings.from_env({**REQUIRED, "LOG_LEVEL": "loud"})


KEY_ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    "key", [KEY_ARN, KEY_ARN.replace("arn:aws:", "arn:aws-us-gov:"), KEY_ARN.replace("1234", "mrk-", 1)]
)
def test_signing_key_is_read_and_there_is_none_by_default(key: str) -> None:
    assert Settings.from_env({**REQUIRED, "MODEL_SIGNING_KEY": key}).model_signing_key == key
    assert Settings.from_env({**REQUIRED, "MODEL_SIGNING_KEY": ""}).model_signing_key == ""


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "alias/models",
        KEY_ARN.replace("key/", "alias/"),
        KEY_ARN.rpartition("/")[2],
        KEY_ARN + "\nx",
        "arn:aws:s3:::bucket",
    ],
)
def test_signing_key_that_is_no_key_arn_fails_the_cold_start_rather_than_checking_nothing(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"setting MODEL_SIGNING_KEY is .*: want the ARN of a KMS key"):
        Settings.from_env({**REQUIRED, "MODEL_SIGNING_KEY": text})


@pytest.mark.parametrize(("refresh_s", "delay_s"), [("60", "130"), ("1", "12"), ("3600", "7210"), ("60", "")])
def test_activation_delay_of_two_refreshes_and_a_margin_is_enough(refresh_s: str, delay_s: str) -> None:
    settings = Settings.from_env({**REQUIRED, "MODEL_REFRESH_S": refresh_s, "MODEL_ACTIVATION_DELAY_S": delay_s})
    assert settings.model_activation_delay_s == float(delay_s or 150)


@pytest.mark.parametrize(
    ("refresh_s", "delay_s", "least_s"), [("60", "129.9", "130"), ("3600", "", "7210"), ("60", "1", "130")]
)
def test_activation_delay_below_two_refreshes_fails_the_start(refresh_s: str, delay_s: str, least_s: str) -> None:
    with pytest.raises(ConfigurationError, match=f"MODEL_ACTIVATION_DELAY_S is .*: want at least {least_s}, twice"):
        Settings.from_env({**REQUIRED, "MODEL_REFRESH_S": refresh_s, "MODEL_ACTIVATION_DELAY_S": delay_s})
