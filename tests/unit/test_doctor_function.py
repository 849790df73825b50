"""The doctor's checks of the function: mapping, model, settings, refreshes of the channel, work."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import FunctionFacts, MappingFacts, ModelFacts, ModelTrouble, Severity, WorkFacts
from infra.operate.doctor.function import function_facts, probe_mapping, probe_release
from infra.stack.describe import Resource
from tests.builders_doctor import WORK, only_problem, problems, stack_with

CONFIGURATION = {
    "FunctionName": "predictor",
    "MemorySize": 1769,
    "Timeout": 60,
    "Environment": {"Variables": {"BUCKET": "rides", "MODEL_CHANNEL": "stable", "OUTPUT_STREAM": "ride-predictions"}},
}
ALIAS = "arn:aws:lambda:us-east-1:123456789012:function:predictor:live"


@pytest.mark.parametrize(
    ("mapping", "severity", "remedy"),
    [
        (MappingFacts("Enabled", "No records processed"), Severity.good, ""),
        (MappingFacts("Enabled"), Severity.good, ""),
        (MappingFacts("Updating", "OK"), Severity.warning, "again in a minute"),
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
        (ModelTrouble.missing, "`ridecast models release build/bundles/<version> --bucket rides`"),
        (ModelTrouble.unfit, "`ridecast models rollback VERSION --bucket rides`"),
        (ModelTrouble.unread, "the model itself was not read"),
    ],
)
def test_model_that_does_not_load_is_bad_and_its_remedy_fits_the_reason(trouble: ModelTrouble, remedy: str) -> None:
    found = only_problem(stack_with(model=ModelFacts("rides", "stable", None, "the reason", trouble)))

    assert (found.check, found.severity) == ("model", Severity.bad)
    assert ("the reason" in found.what) == (trouble is not ModelTrouble.missing)
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("state", "severity"),
    [("Inactive", Severity.good), ("Pending", Severity.warning), ("Failed", Severity.bad)],
)
def test_function_that_cannot_run_is_bad_with_lambdas_reason(state: str, severity: Severity) -> None:
    function = FunctionFacts("predictor", state, "no room on this subnet")
    findings = [one for one in check(stack_with(function=function)) if one.check == "function"]

    assert findings[0].severity is severity
    assert ("no room on this subnet" in findings[0].what) == (severity is not Severity.good)


def test_settings_that_would_fail_a_cold_start_are_bad() -> None:
    found = only_problem(stack_with(function=FunctionFacts("predictor", settings_problem="setting BUCKET is missing")))
    assert (found.check, found.severity) == ("function", Severity.bad)
    assert "BUCKET" in found.what


def test_settings_become_parameters() -> None:
    facts = function_facts(CONFIGURATION)
    assert facts.settings_problem == ""
    assert facts.parameters == {"MemoryMb": "1769", "TimeoutSeconds": "60", "ModelChannel": "stable"}


def test_function_without_an_environment_lacks_its_settings() -> None:
    without = {name: value for name, value in CONFIGURATION.items() if name != "Environment"}
    assert "OUTPUT_STREAM, BUCKET, MODEL_CHANNEL" in function_facts(without).settings_problem


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        ({"n_refresh_failures": 3, "n_recent_refresh_failures": 2}, Severity.bad, "2 refresh failures"),
        ({"n_refresh_failures": 1, "n_recent_records": 0}, Severity.bad, "no ride has arrived since"),
        ({"n_refresh_failures": 3}, Severity.warning, "none in the last 10 minutes"),
    ],
)
def test_refresh_is_checked_in_the_recent_past_and_the_window(
    change: dict[str, int], severity: Severity, words: str
) -> None:
    found = only_problem(stack_with(work=replace(WORK, **change)))

    assert (found.check, found.severity) == ("refresh", severity)
    assert words in found.what


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        ({"n_errors": 3, "n_exceptions": 3}, Severity.bad, "`invocation failed`"),
        ({"n_errors": 3}, Severity.bad, "`Task timed out`"),
        ({"n_exceptions": 3}, Severity.bad, "`invocation failed`"),
        ({"n_predictions": 0, "n_rejects": 1000}, Severity.bad, "ridecast records list --kind reject"),
        ({"n_predictions": 0, "n_rejects": 0}, Severity.bad, "`output stream`"),
        ({"n_rejects": 11}, Severity.warning, "ridecast records list --kind reject"),
        ({"n_throttles": 1}, Severity.warning, "`concurrency`"),
        ({"max_record_age_s": 301.0}, Severity.warning, "ParallelizationFactor"),
    ],
)
def test_rides_must_be_predicted(change: dict[str, int], severity: Severity, words: str) -> None:
    found = only_problem(stack_with(work=replace(WORK, **change)))

    assert (found.check, found.severity) == ("work", severity)
    assert words in found.remedy


def test_one_problem_does_not_hide_another() -> None:
    found = problems(stack_with(work=replace(WORK, n_errors=1, n_throttles=1, n_rejects=500)))
    assert [one.severity for one in found] == [Severity.bad, Severity.warning, Severity.warning]


def test_function_without_rides_has_no_problem() -> None:
    assert problems(stack_with(work=WorkFacts(), streams=())) == []


def test_rides_that_do_not_reach_the_function_are_a_warning() -> None:
    found = only_problem(stack_with(work=WorkFacts()))
    assert found.what == "1,000 records arrived on ride-events, and the function reports none"


class Mappings:
    """Lambda with two mappings to one alias, from two streams."""

    def list_event_source_mappings(self, *, FunctionName: str, EventSourceArn: str) -> dict[str, Any]:  # noqa: N803
        """List the mapping to a function from a stream."""
        streams = {"other": "Enabled", "rides": "Disabled"} if FunctionName == ALIAS else {}
        found = [{"State": state, "BatchSize": 1} for arn, state in streams.items() if arn == EventSourceArn]
        return {"EventSourceMappings": found}


def version(function: str, number: int) -> Resource:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}:{number}"
    return Resource(f"Version{number}", arn, "AWS::Lambda::Version")


def lambda_with_alias_at(serving: str, **more: Any) -> Any:
    return SimpleNamespace(get_alias=lambda **_: {"FunctionVersion": serving, **more})


def test_mapping_from_another_stream_to_the_same_alias_is_ignored() -> None:
    assert probe_mapping(Mappings(), ALIAS, "rides").state == "Disabled"
    assert probe_mapping(Mappings(), ALIAS, "gone").state == ""


def test_published_version_is_the_functions_latest_whatever_other_functions_have() -> None:
    resources = [version("predictor", 9), version("predictor", 10), version("other", 11), version("my-predictor", 12)]

    release = probe_release(lambda_with_alias_at("9", RoutingConfig=None), "predictor", ALIAS, resources)

    assert (release.alias, release.serving, release.published, release.next_version) == ("live", "9", "10", "")


def test_stack_whose_resources_are_unknown_has_no_published_version() -> None:
    assert probe_release(lambda_with_alias_at("9"), "predictor", ALIAS, ()).published == ""
