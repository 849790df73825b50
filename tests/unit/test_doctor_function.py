"""The doctor's judgement of the function: its mapping, its model, its settings, its looks at the channel, its work."""

from dataclasses import replace

import pytest

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import FunctionFacts, MappingFacts, ModelFacts, ModelTrouble, Severity, WorkFacts
from infra.operate.doctor.function import function_facts
from tests.builders_doctor import WORK, ill, only_ill, stack_with

CONFIGURATION = {
    "FunctionName": "predictor",
    "MemorySize": 1769,
    "Timeout": 60,
    "Environment": {"Variables": {"BUCKET": "rides", "MODEL_CHANNEL": "stable", "OUTPUT_STREAM": "ride-predictions"}},
}


@pytest.mark.parametrize(
    ("mapping", "severity", "remedy"),
    [
        (MappingFacts("Enabled", "No records processed"), Severity.good, ""),
        (MappingFacts("Enabled"), Severity.good, ""),
        (MappingFacts("Updating", "OK"), Severity.warning, "look again"),
        (MappingFacts("Enabled", "PROBLEM: Function call failed"), Severity.bad, "log"),
        (MappingFacts("Disabled", "OK"), Severity.bad, "update-event-source-mapping --enabled"),
        (MappingFacts(""), Severity.bad, "deploy again"),
    ],
)
def test_mapping_that_is_off_or_fails_is_bad(mapping: MappingFacts, severity: Severity, remedy: str) -> None:
    (found,) = [one for one in check(stack_with(mapping=mapping)) if one.check == "mapping"]
    assert found.severity is severity
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        (ModelTrouble.missing, "`ridecast models publish build/bundles/<version> --bucket rides`"),
        (ModelTrouble.unfit, "`ridecast models rollback --bucket rides`"),
        (ModelTrouble.unread, "nothing is known of the model itself"),
    ],
)
def test_model_that_cannot_be_had_is_bad_and_its_remedy_fits_the_reason(trouble: ModelTrouble, remedy: str) -> None:
    found = only_ill(stack_with(model=ModelFacts("rides", "stable", None, "the reason", trouble)))

    assert (found.check, found.severity) == ("model", Severity.bad)
    assert ("the reason" in found.what) == (trouble is not ModelTrouble.missing)
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("state", "severity"),
    [("Inactive", Severity.good), ("Pending", Severity.warning), ("Failed", Severity.bad)],
)
def test_function_that_cannot_run_is_bad_with_lambdas_own_reason(state: str, severity: Severity) -> None:
    function = FunctionFacts("predictor", state, "no room on this subnet")
    findings = [one for one in check(stack_with(function=function)) if one.check == "function"]

    assert findings[0].severity is severity
    assert ("no room on this subnet" in findings[0].what) == (severity is not Severity.good)


def test_settings_that_would_fail_a_cold_start_are_bad() -> None:
    found = only_ill(stack_with(function=FunctionFacts("predictor", settings_problem="setting BUCKET is missing")))
    assert (found.check, found.severity) == ("function", Severity.bad)
    assert "BUCKET" in found.what


def test_settings_are_read_as_the_function_reads_them() -> None:
    facts = function_facts(CONFIGURATION)
    assert facts.settings_problem == ""
    assert facts.parameters == {"MemoryMb": "1769", "TimeoutSeconds": "60", "ModelChannel": "stable"}


def test_function_without_an_environment_lacks_its_settings() -> None:
    without = {name: value for name, value in CONFIGURATION.items() if name != "Environment"}
    assert "OUTPUT_STREAM, BUCKET, MODEL_CHANNEL" in function_facts(without).settings_problem


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        ({"n_refresh_failures": 3, "n_recent_refresh_failures": 2}, Severity.bad, "2 looks"),
        ({"n_refresh_failures": 1, "n_recent_records": 0}, Severity.bad, "no ride has come since"),
        ({"n_refresh_failures": 3}, Severity.warning, "none in the last 10 minutes"),
    ],
)
def test_refresh_is_judged_by_the_last_looks(change: dict[str, int], severity: Severity, words: str) -> None:
    found = only_ill(stack_with(work=replace(WORK, **change)))

    assert (found.check, found.severity) == ("refresh", severity)
    assert words in found.what


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        ({"n_errors": 3, "n_exceptions": 3}, Severity.bad, "`invocation failed`"),
        ({"n_errors": 3}, Severity.bad, "`Task timed out`"),
        ({"n_exceptions": 3}, Severity.bad, "`invocation failed`"),
        ({"n_predictions": 0, "n_rejects": 1000}, Severity.bad, "ridecast rejects list"),
        ({"n_predictions": 0, "n_rejects": 0}, Severity.bad, "`output stream`"),
        ({"n_rejects": 11}, Severity.warning, "ridecast rejects list"),
        ({"n_throttles": 1}, Severity.warning, "`concurrency`"),
        ({"max_record_age_s": 301.0}, Severity.warning, "ParallelizationFactor"),
    ],
)
def test_work_is_judged_by_what_became_of_the_rides(change: dict[str, int], severity: Severity, words: str) -> None:
    found = only_ill(stack_with(work=replace(WORK, **change)))

    assert (found.check, found.severity) == ("work", severity)
    assert words in found.remedy


def test_one_trouble_does_not_hide_another() -> None:
    found = ill(stack_with(work=replace(WORK, n_errors=1, n_throttles=1, n_rejects=500)))
    assert [one.severity for one in found] == [Severity.bad, Severity.warning, Severity.warning]


def test_function_without_rides_is_not_ill() -> None:
    assert ill(stack_with(work=WorkFacts(), streams=())) == []


def test_rides_that_arrive_and_are_not_handed_over_are_a_warning() -> None:
    found = only_ill(stack_with(work=WorkFacts()))
    assert found.what == "1,000 records arrived on ride-events, and the function has told of none"
