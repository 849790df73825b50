"""The configuration of a training run: defaults, a file, options, and one sentence for each mistake."""

from pathlib import Path

import pytest

from training.data.months import parse_months
from training.errors import UserError
from training.model.parameters import PARAMETERS
from training.workflows.config import TrainingConfig, build_config


def config_of(text: str, tmp_path: Path, *parameters: str, **options: object) -> TrainingConfig:
    """Build a run from the text of a file, options and parameters of `--set`."""
    file = tmp_path / "run.toml"
    file.write_text(text)
    return build_config(file, options, parameters)


def test_default_run() -> None:
    config = build_config(None, {})
    assert config.service == "green"
    assert config.train_months == parse_months("2021-01")
    assert config.validate_months == parse_months("2021-02")
    assert config.test_months == ()
    assert config.parameters == PARAMETERS


def test_options_outrank_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    months = 'service = "yellow"\ntrain = "2019-01..2019-03"\nvalidate = "2019-04"\n'
    text = f"{months}[parameters]\nmax_iter = 7\nmax_bins = 9\n"
    config = config_of(text, tmp_path, "max_iter=9", " l2_regularization = 1.5 ", validate="2019-05", test=None)
    assert config.service == "yellow"
    assert [str(month) for month in config.train_months] == ["2019-01", "2019-02", "2019-03"]
    assert [str(month) for month in config.validate_months] == ["2019-05"]
    assert config.parameters == {**PARAMETERS, "max_iter": 9, "max_bins": 9, "l2_regularization": 1.5}


def test_rules_to_allow_come_from_file_or_options(tmp_path: Path) -> None:
    assert config_of('allow = ["duplicates"]', tmp_path).allow == ("duplicates",)
    assert config_of('allow = ["duplicates"]', tmp_path, allow=("kept",)).allow == ("kept",)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train": "2021-01,2021-02", "validate": "2021-02"}, "--validate names 2021-02, which is a training month"),
        (
            {"train": "2021-02", "validate": "2021-01"},
            "--validate names 2021-01, which is too early: choose months after",
        ),
        ({"test": "2021-01"}, "--test names 2021-01, which is a training month"),
        ({"test": "2021-02"}, "--test names 2021-02, which is a validation month"),
        ({"train": "2021-13"}, "write months as"),
        ({"service": "blue"}, "service is 'blue': choose one of green, yellow"),
    ],
)
def test_invalid_run_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build_config(None, options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trian = '2021-01'", "trian is no setting: did you mean train?"),
        ("colour = 'red'", "colour is no setting: choose among service, train"),
        ("train = 2021", "train is 2021: write a text in quotes"),
        ("allow = 'duplicates'", "allow is 'duplicates': write a list of rules"),
        ("allow = [1]", "write a list of rules"),
        ("parameters = 3", "parameters is 3: write a table"),
        ("train = ", "is not TOML"),
    ],
)
def test_invalid_file_is_refused_by_name(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        config_of(text, tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml cannot be read"):
        build_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize("text", ["max_iter", "=3", "max_iter=", "max_iter=many", "max_iter=1 2"])
def test_parameter_without_name_and_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--set"):
        build_config(None, {}, [text])
