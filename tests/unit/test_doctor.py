"""The doctor's checks: what is a problem, how bad it is, and its remedy."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yaml import YAMLError

from infra.cli.operate import show_findings
from infra.operate.doctor.alarms import count_subscribers
from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import (
    AlarmFacts,
    ConcurrencyFacts,
    Finding,
    FunctionFacts,
    MappingFacts,
    QuotaFacts,
    ReleaseFacts,
    Severity,
    StackFacts,
    WorkFacts,
    good,
)
from infra.operate.doctor.faults import FAULTS, found
from infra.operate.doctor.function import function_facts, probe_release
from infra.operate.doctor.mapping import probe_archive, probe_mapping
from infra.operate.doctor.stack import describe_own_stack
from infra.operate.doctor.template_diff import diff_templates, parse_deployed
from infra.stack.describe import DescribedStack, Resource
from tests.builders_doctor import HEALTHY, INPUT, OUTCOMES, OUTPUT, WORK, only_problem, problems, stack_with
from tests.kits.doctor_faults import PLANTED
from training.errors import UserError

Problem = tuple[StackFacts, str, Severity, *tuple[str, ...]]
"""Facts with one problem: its check, its severity, and words of its finding and remedy."""

BAD, WARNING, UNKNOWN = Severity.bad, Severity.warning, Severity.unknown
WELL = AlarmFacts("ridecast-errors", "FunctionErrorsAlarm", "OK")
AGE = AlarmFacts("ridecast-age", "IteratorAgeAlarm", "ALARM", "1 datapoint was over 300")
STACK = AlarmFacts("ridecast-all", "StackAlarm", "ALARM", "age is in alarm", is_composite=True)
MUTED = AlarmFacts("ridecast-all", "StackAlarm", "OK", is_muted=True, is_composite=True)


THEIR_KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b"


def with_input(**changes: Any) -> StackFacts:
    return stack_with(streams=(replace(INPUT, **changes), OUTPUT))


def with_work(**changes: Any) -> StackFacts:
    return stack_with(work=replace(WORK, **changes))


def with_concurrency(reserved: int | None, unreserved: int = 1000, account: int = 1000, factor: int = 3) -> StackFacts:
    """A stack whose two shards take six invocations at a time by default."""
    return stack_with(
        mapping=MappingFacts("Enabled", "OK", factor), concurrency=ConcurrencyFacts(reserved, unreserved, account)
    )


def changed_by_hand() -> StackFacts:
    return stack_with(parameters={**HEALTHY.parameters, "RideEventsShards": "1", "MemoryMb": "512"})


PROBLEMS: list[Problem] = [
    (stack_with(status="UPDATE_ROLLBACK_COMPLETE"), "stack", WARNING, "describe-stack-events"),
    (stack_with(status="UPDATE_IN_PROGRESS"), "stack", WARNING, "again when the operation has ended"),
    (stack_with(status="REVIEW_IN_PROGRESS"), "stack", WARNING, "change set"),
    (stack_with(status="ROLLBACK_COMPLETE"), "stack", BAD, "delete it and deploy again"),
    (stack_with(status="UPDATE_ROLLBACK_FAILED"), "stack", BAD, "continue-update-rollback"),
    (stack_with(status="DELETE_FAILED"), "stack", BAD, "delete it again"),
    (
        stack_with(template_diff=tuple(f"{name} differs" for name in "ABCDE")),
        "template diff",
        WARNING,
        "A differs; B differs; C differs and 2 more",
    ),
    (
        changed_by_hand(),
        "parameters",
        WARNING,
        "RideEventsShards is 2, deployed as 1; MemoryMb is 1769, deployed as 512",
        "deploy with RideEventsShards=2 MemoryMb=1769",
    ),
    (stack_with(resource_drift="DRIFTED"), "resources", WARNING, "describe-stack-resource-drifts"),
    (
        stack_with(release=ReleaseFacts("predictor", "live", "7", "8")),
        "release",
        WARNING,
        "version 7 serves, and the stack published 8",
    ),
    (
        stack_with(release=ReleaseFacts("predictor", "live", "7", "8", "8", 0.1)),
        "release",
        WARNING,
        "version 8 gets 10% of the batches, 7 the rest",
    ),
    (stack_with(parameters={"RolloutAlarms": "Ignored"}), "release", WARNING, "RolloutAlarms=Watched"),
    (with_input(peak_records_per_s=1401.0), "input stream", WARNING, "RideEventsShards=4"),
    (with_input(peak_bytes_per_s=1.5 * 1024 * 1024), "input stream", WARNING, "RideEventsShards=4"),
    (with_input(n_throttled=1), "input stream", BAD, "RideEventsShards=4"),
    (with_input(n_throttled=1, is_own=False), "input stream", BAD, "ask its owner for 4 shards"),
    (with_input(peak_records_per_s=1401.0, is_own=False), "input stream", WARNING, "ask its owner for 4 shards"),
    (with_input(key=THEIR_KEY, is_own=False), "input stream", BAD, f"deploy with RideEventsKeyArn={THEIR_KEY}"),
    (with_input(n_throttled=1, is_on_demand=True), "input stream", BAD, "send at a lower rate"),
    (stack_with(streams=(INPUT, replace(OUTPUT, n_throttled=9))), "output stream", BAD, "RidePredictionsShards=4"),
    (stack_with(streams=(replace(OUTCOMES, n_throttled=9),)), "outcomes stream", BAD, "RideOutcomesShards=4"),
    (
        stack_with(streams=(replace(OUTCOMES, n_throttled=9, is_on_demand=True),)),
        "outcomes stream",
        BAD,
        "send at a lower rate",
    ),
    (
        stack_with(streams=(replace(OUTCOMES, peak_records_per_s=1401.0),)),
        "outcomes stream",
        WARNING,
        "RideOutcomesShards=4",
    ),
    (
        stack_with(streams=(replace(OUTCOMES, retention_h=24, wanted_retention_h=48),)),
        "outcomes stream",
        BAD,
        "--retention-period-hours 48",
    ),
    (
        stack_with(archive_mappings={"ride-outcomes": MappingFacts("Enabled", "PROBLEM: Function call failed")}),
        "archive",
        BAD,
        "of ride-outcomes, the mapping is Enabled",
    ),
    (
        stack_with(archive_mappings={"ride-outcomes": MappingFacts("Updating")}),
        "archive",
        WARNING,
        "again in a minute",
    ),
    (stack_with(mapping=MappingFacts("Updating", "OK")), "mapping", WARNING, "again in a minute"),
    (stack_with(mapping=MappingFacts("Enabled", "PROBLEM: Function call failed")), "mapping", BAD, "log"),
    (
        stack_with(mapping=MappingFacts("Disabled", uuid="one")),
        "mapping",
        BAD,
        "update-event-source-mapping --uuid one --enabled",
    ),
    (stack_with(mapping=MappingFacts("")), "mapping", BAD, "docs/runbook.md#repair"),
    (with_concurrency(None, 6), "concurrency", WARNING, "2 shards x ParallelizationFactor 3 take 6 at a time"),
    (with_concurrency(5, 995), "concurrency", WARNING, " → deploy with ReservedConcurrency=6"),
    (with_concurrency(0), "concurrency", BAD, "does not invoke"),
    (
        with_concurrency(2, 102, 104),
        "concurrency",
        WARNING,
        "Service Quotas from 104 to 106 at least",
        "then deploy with ReservedConcurrency=6",
    ),
    (
        with_concurrency(None, 10, 10, factor=10),
        "concurrency",
        WARNING,
        "`Concurrent executions` (L-B99A9384) in Service Quotas",
    ),
    (
        replace(with_input(is_on_demand=True, n_open_shards=4), concurrency=ConcurrencyFacts(7, 993, 1000)),
        "concurrency",
        WARNING,
        "4 shards that may become 2 times as many x ParallelizationFactor 1 take 8",
        "ReservedConcurrency=8",
    ),
    (stack_with(function=FunctionFacts("predictor", "Pending", "no room")), "function", WARNING, "no room"),
    (stack_with(function=FunctionFacts("predictor", "Failed", "no room")), "function", BAD, "no room"),
    (
        stack_with(function=FunctionFacts("predictor", settings_problem="setting BUCKET is missing")),
        "function",
        BAD,
        "BUCKET",
    ),
    (with_work(n_refresh_failures=3, n_recent_refresh_failures=2), "refresh", BAD, "2 refresh failures"),
    (with_work(n_refresh_failures=1, n_recent_records=0), "refresh", BAD, "no ride has arrived since"),
    (with_work(n_refresh_failures=3), "refresh", WARNING, "none in the last 10 minutes"),
    (with_work(n_errors=3, n_exceptions=3), "work", BAD, "`invocation failed`"),
    (with_work(n_errors=3), "work", BAD, "`Task timed out`"),
    (with_work(n_exceptions=3), "work", BAD, "`invocation failed`"),
    (with_work(n_predictions=0, n_rejects=1000), "work", BAD, "ridecast records list --kind reject --stack ridecast"),
    (with_work(n_predictions=0, n_rejects=0), "work", BAD, "`output stream`"),
    (with_work(n_rejects=11), "work", WARNING, "ridecast records list --kind reject --stack ridecast"),
    (with_work(n_without_pickup_time=11), "work", WARNING, "11 of 995 rides had no pickup time", "`pickup_datetime`"),
    (with_work(n_throttles=1), "work", WARNING, "`concurrency`"),
    (with_work(max_record_age_s=301.0), "work", WARNING, "ParallelizationFactor"),
    (
        stack_with(work=WorkFacts()),
        "work",
        WARNING,
        "1,000 records arrived on ride-events, and the function reports none",
    ),
    (
        stack_with(alarms=(WELL, AGE)),
        "alarm",
        BAD,
        "ridecast-age: 1 datapoint was over 300 → docs/runbook.md#iteratoragealarm describes",
    ),
    (stack_with(alarms=(AGE, STACK)), "alarm", BAD, "ridecast-age"),  # its cause stands for the composite alarm
    (stack_with(alarms=(WELL, STACK)), "alarm", BAD, "docs/runbook.md describes"),
    (
        stack_with(alarms=(WELL, MUTED)),
        "alarm",
        WARNING,
        "nobody is notified → `aws cloudwatch enable-alarm-actions --alarm-names ridecast-all`",
    ),
    (stack_with(alarms=(WELL, replace(AGE, state=""))), "alarm", BAD, "somebody has deleted ridecast-age"),
    (stack_with(n_subscribers=0), "alarm topic", WARNING, "AlarmEmail"),
    (
        stack_with(quotas=(QuotaFacts("shards", 451, 500),)),
        "quota",
        WARNING,
        "451 of the account's 500 shards are used",
    ),
    (stack_with(streams=(INPUT, replace(OUTPUT, n_throttled=9, is_on_demand=True))), "output stream", BAD, "resends"),
    (stack_with(streams=(INPUT, replace(OUTPUT, peak_records_per_s=1401.0))), "output stream", WARNING, "Shards=4"),
    (with_input(retention_h=24, wanted_retention_h=48), "input stream", BAD, "--retention-period-hours 48`"),
    (
        replace(with_input(retention_h=24), mapping=MappingFacts("Enabled", "OK", max_record_age_s=86_400)),
        "input stream",
        BAD,
        "a batch that fails is lost before Lambda stores it, after 24 h",
        "--retention-period-hours 48`",
    ),
    (with_work(n_rejects_not_stored=3), "work", BAD, "3 rejects found no place", "#rejectsnotstoredalarm"),
    (with_work(n_recent_stale=2), "refresh", BAD, "docs/runbook.md#stalechannelalarm"),
    (with_work(n_retried=7), "work", WARNING, "7 records were returned to Lambda", "`role`"),
    (stack_with(mapping=MappingFacts("Enabled", is_of_another_stream=True)), "mapping", BAD, "docs/runbook.md#repair"),
    (
        stack_with(missing={"key": found("key-missing", "arn:aws:kms:1:2:key/3 does not exist")}),
        "key",
        BAD,
        "docs/runbook.md#repair",
    ),
    (
        stack_with(n_waiting={"rejects": 2}),
        "rejects",
        WARNING,
        "`ridecast records redrive --kind reject --stack ridecast`",
    ),
    (
        stack_with(n_waiting={"failures": 1}),
        "failures",
        BAD,
        "`ridecast records redrive --kind failure --stack ridecast`",
    ),
    (
        stack_with(alarms=(), unread={"alarms": "AccessDenied"}, denied=frozenset({"alarms"})),
        "alarms",
        UNKNOWN,
        "AccessDenied",
        "DoctorPolicy",
    ),
    (
        stack_with(template_diff=None, unread={"template diff": "it is not YAML"}),
        "template diff",
        UNKNOWN,
        "it is not YAML → run this again",
    ),
]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problem_has_a_severity_and_a_remedy(problem: Problem) -> None:
    facts, name, severity, *words = problem
    found = only_problem(facts)

    assert (found.check, found.severity) == (name, severity)
    assert severity is FAULTS[found.fault].severity
    for one in words:
        assert one in f"{found.what} → {found.remedy}"


def test_every_fault_that_the_doctor_sees_is_found_by_a_test() -> None:
    here = {only_problem(facts).fault for facts, *_ in PROBLEMS}
    planted = {fault for fault, *_ in PLANTED}
    # test_doctor_model.py
    by_loading_a_model = {"no-model", "channel-damaged", "channel-lost", "model-damaged", "calibration-damaged"}
    of_two_findings = {"rides-waited-for-a-cause"}  # below
    of_an_existing_stream = {"existing-stream-missing"}  # tests/integration/test_existing_streams.py

    seen = {name for name, one in FAULTS.items() if one.check}
    assert seen == here | planted | by_loading_a_model | of_two_findings | of_an_existing_stream


@pytest.mark.parametrize("key", ["", "alias/aws/kinesis", THEIR_KEY, "0a1b"])
def test_stream_that_existed_already_may_have_no_key_one_of_aws_or_the_one_of_the_deployment(key: str) -> None:
    assert problems(with_input(key=key, is_own=False, usable_key=THEIR_KEY)) == []


def test_more_shards_are_no_remedy_where_something_else_is_the_cause() -> None:
    late = with_work(max_record_age_s=4000.0)
    assert only_problem(late).remedy == "raise ParallelizationFactor or the number of shards"

    denied = found("role-lacks-permission", "the role may not kinesis:PutRecords")
    _, waited = problems(replace(late, settings=(denied,)))

    assert (waited.fault, waited.remedy) == (
        "rides-waited-for-a-cause",
        "more shards do not help: remove the cause first, see `role`",
    )


@pytest.mark.parametrize(
    "facts",
    [
        stack_with(status="CREATE_COMPLETE"),
        stack_with(resource_drift="IN_SYNC"),
        stack_with(release=ReleaseFacts("predictor", "live", "7", "")),  # the stack lists no version
        stack_with(parameters={"RolloutAlarms": "Watched"}),
        with_input(peak_records_per_s=1400.0),
        with_input(peak_records_per_s=9000.0, is_on_demand=True),
        stack_with(mapping=MappingFacts("Enabled", "No records processed")),
        stack_with(mapping=MappingFacts("Enabled")),
        with_concurrency(None, 7),
        with_concurrency(6, 994),
        stack_with(function=FunctionFacts("predictor", "Inactive", "unused")),
        stack_with(work=WorkFacts(), streams=()),
        stack_with(n_subscribers=None),  # unknown
        stack_with(quotas=(QuotaFacts("shards", 450, 500),)),
    ],
)
def test_other_healthy_states_have_no_problem(facts: StackFacts) -> None:
    assert problems(facts) == []


def test_healthy_stack_has_only_good_findings_without_a_remedy() -> None:
    findings = check(HEALTHY)

    assert {one.severity for one in findings} == {Severity.good}
    assert not any(one.remedy for one in findings)
    assert [one.check for one in findings] == [
        "stack", "template diff", "parameters", "release", "input stream", "output stream", "outcomes stream",
        "mapping", "archive", "concurrency",
        "model", "function", "refresh", "work", "alarm", "quota", "rejects", "failures",
    ]  # fmt: skip


def test_worst_findings_come_first() -> None:
    findings = check(
        stack_with(status="UPDATE_ROLLBACK_COMPLETE", mapping=None, n_waiting={"rejects": 2, "failures": 1})
    )

    assert [one.check for one in findings][:4] == ["failures", "stack", "rejects", "template diff"]
    assert [one.severity for one in findings] == sorted((one.severity for one in findings), key=list(Severity).index)


def test_one_problem_does_not_hide_another() -> None:
    found = problems(with_work(n_errors=1, n_throttles=1, n_rejects=500))
    assert [one.severity for one in found] == [Severity.bad, Severity.warning, Severity.warning]


def test_stack_of_which_only_the_status_is_known_has_one_finding() -> None:
    assert [one.check for one in check(StackFacts("ridecast", "CREATE_IN_PROGRESS", 60))] == ["stack"]


@pytest.mark.parametrize("missing", [{"streams": ()}, {"mapping": None}, {"concurrency": None}])
def test_concurrency_is_not_checked_if_a_part_of_the_sum_is_unknown(missing: dict[str, object]) -> None:
    assert "concurrency" not in {one.check for one in check(stack_with(**missing))}


def finding(facts: StackFacts, name: str) -> Finding:
    (found,) = [one for one in check(facts) if one.check == name]
    return found


@given(st.integers(0, 50), st.integers(0, 2000), st.integers(1, 10), st.integers(1, 40))
def test_reservation_deployed_by_the_remedy_is_good(reserved: int, unreserved: int, factor: int, n: int) -> None:
    stream, mapping = replace(INPUT, n_open_shards=n), MappingFacts("Enabled", "OK", factor)
    concurrency = ConcurrencyFacts(reserved, unreserved, reserved + unreserved)
    facts = stack_with(streams=(stream, OUTPUT), mapping=mapping, concurrency=concurrency)

    advised = finding(facts, "concurrency").remedy.rpartition("=")[2]

    if advised:
        raised = replace(concurrency, reserved=int(advised))
        assert finding(replace(facts, concurrency=raised), "concurrency").severity is Severity.good


OUTPUTS = (
    "FunctionName", "FunctionAliasArn", "BucketName", "RideEventsStream", "RideEventsArn", "RidePredictionsStream",
)  # fmt: skip
CONFIGURATION = {
    "FunctionName": "predictor",
    "MemorySize": 1769,
    "Timeout": 60,
    "Environment": {"Variables": {"BUCKET": "rides", "MODEL_CHANNEL": "stable", "OUTPUT_STREAM": "ride-predictions"}},
}
ALIAS = "arn:aws:lambda:us-east-1:123456789012:function:predictor:live"


def test_settings_become_parameters() -> None:
    facts = function_facts(CONFIGURATION)
    assert facts.settings_problem == ""
    assert facts.parameters == {"MemoryMb": "1769", "TimeoutSeconds": "60", "ModelChannel": "stable"}


def test_function_without_an_environment_lacks_its_settings() -> None:
    without = {name: value for name, value in CONFIGURATION.items() if name != "Environment"}
    assert "OUTPUT_STREAM, BUCKET, MODEL_CHANNEL" in function_facts(without).settings_problem


def version(function: str, number: int) -> Resource:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}:{number}"
    return Resource(f"Version{number}", arn, "AWS::Lambda::Version")


def lambda_with_alias_at(serving: str, **more: Any) -> Any:
    return SimpleNamespace(get_alias=lambda **_: {"FunctionVersion": serving, **more})


def lambda_with_mappings(*mappings: dict[str, Any]) -> Any:
    listed = [{"UUID": "one", "State": "Enabled", "BatchSize": 1, **mapping} for mapping in mappings]
    return SimpleNamespace(list_event_source_mappings=lambda **_: {"EventSourceMappings": listed})


def test_mapping_from_another_stream_to_the_same_alias_is_ignored() -> None:
    aws_lambda = lambda_with_mappings({"EventSourceArn": "other"}, {"EventSourceArn": "rides", "State": "Disabled"})

    assert probe_mapping(aws_lambda, ALIAS, "rides").state == "Disabled"
    assert probe_mapping(lambda_with_mappings(), ALIAS, "rides").state == ""


def test_only_mapping_that_reads_another_stream_is_found() -> None:
    mapping = probe_mapping(lambda_with_mappings({"EventSourceArn": "other"}), ALIAS, "rides")

    assert only_problem(stack_with(mapping=mapping)).fault == "mapping-wrong-stream"


def test_changed_setting_of_a_mapping_is_restored_by_the_remedy() -> None:
    now = {"EventSourceArn": "rides", "MaximumRetryAttempts": 3, "BisectBatchOnFunctionError": False}
    wanted = {"MaximumRetryAttempts": -1, "BisectBatchOnFunctionError": True, "DestinationConfig": {"OnFailure": {}}}

    found = only_problem(stack_with(mapping=probe_mapping(lambda_with_mappings(now), ALIAS, "rides", wanted)))

    assert "MaximumRetryAttempts is 3, and the template says -1" in found.what
    assert found.remedy == (
        "`aws lambda update-event-source-mapping --uuid one --bisect-batch-on-function-error"
        " --destination-config '{\"OnFailure\": {}}' --maximum-retry-attempts -1`"
    )


ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/"


def test_archive_has_a_mapping_of_each_stream_also_through_a_consumer_of_its_own() -> None:
    aws_lambda = lambda_with_mappings(
        {"EventSourceArn": f"{ARN}rides", "MaximumRetryAttempts": 3},
        {"EventSourceArn": f"{ARN}outcomes/consumer/ridecast-archive:1"},
    )
    wanted = {"MaximumRetryAttempts": -1}

    mappings = probe_archive(
        aws_lambda, "archiver", {f"{ARN}{name}": wanted for name in ("rides", "ride", "outcomes", "predictions")}
    )

    assert {name: mapping.state for name, mapping in mappings.items()} == {
        "rides": "Enabled", "ride": "", "outcomes": "Enabled", "predictions": "",
    }  # fmt: skip
    found = only_problem(stack_with(archive_mappings={"rides": mappings["rides"]}))
    assert (found.check, found.fault) == ("archive", "mapping-changed")
    assert "--maximum-retry-attempts -1" in found.remedy


def test_published_version_is_the_functions_latest_and_not_another_functions() -> None:
    resources = [version("predictor", 9), version("predictor", 10), version("other", 11), version("my-predictor", 12)]

    release = probe_release(lambda_with_alias_at("9", RoutingConfig=None), "predictor", ALIAS, resources)

    assert (release.alias, release.serving, release.published, release.next_version) == ("live", "9", "10", "")


def test_stack_whose_resources_are_unknown_has_no_published_version() -> None:
    assert probe_release(lambda_with_alias_at("9"), "predictor", ALIAS, ()).published == ""


@pytest.mark.parametrize("n_confirmed", [0, 2])
def test_only_confirmed_subscriptions_count(n_confirmed: int) -> None:
    topic, queue = Resource("AlarmTopic", "topic", "AWS::SNS::Topic"), Resource("Queue", "queue", "AWS::SQS::Queue")
    attributes = {"SubscriptionsConfirmed": str(n_confirmed), "SubscriptionsPending": "9"}
    sns = SimpleNamespace(get_topic_attributes=lambda TopicArn: {"Attributes": attributes})  # noqa: N803

    assert count_subscribers(sns, (queue, topic)) == n_confirmed
    assert count_subscribers(sns, (queue,)) is None


def test_building_and_packaging_make_no_difference() -> None:
    here = {
        "Resources": {
            "Predictor": {
                "Type": "AWS::Serverless::Function",
                "Properties": {"CodeUri": "lambda_function/", "Timeout": 60, "Role": {"Fn::GetAtt": ["Role", "Arn"]}},
            }
        }
    }
    deployed = """
Resources:
  Predictor:
    Type: AWS::Serverless::Function
    Metadata: {SamResourceId: Predictor}
    Properties: {CodeUri: "s3://bucket/key", Timeout: "60", Role: {"Fn::GetAtt": Role.Arn}}
"""
    assert diff_templates(here, parse_deployed(deployed)) == ()


@pytest.mark.parametrize(
    ("here", "deployed", "sentence"),
    [
        ({"Default": 1}, {"Default": 2}, "Shards.Default is 1 here, 2 deployed"),
        ({"Default": 1, "MinValue": 1}, {"Default": 1}, "Shards.MinValue is only here"),
        ({"Default": 1}, {"Default": 1, "MinValue": 1}, "Shards.MinValue is only deployed"),
        ({"Description": "a" * 31}, {"Description": "b"}, "Shards.Description differs"),
        ({"AllowedValues": [1]}, {"AllowedValues": [1, 2]}, "Shards.AllowedValues differs"),
        ({"Default": 1, "Type": "a"}, {"Default": 2, "Type": "b"}, "Shards.Default is 1 here, 2 deployed"),
        ({"Default": None}, {}, "Shards.Default is only here"),
    ],
)
def test_difference_names_its_first_place(here: dict[str, Any], deployed: dict[str, Any], sentence: str) -> None:
    found = diff_templates({"Parameters": {"Shards": here}}, {"Parameters": {"Shards": deployed}})
    assert found == (sentence,)


@pytest.mark.parametrize("section", ["Mappings", "Conditions", "Rules", "Globals", "Outputs"])
def test_every_section_is_compared(section: str) -> None:
    assert diff_templates({section: {"A": "x"}}, {}) == ("A is only here",)


def test_deployed_template_with_short_functions_is_refused() -> None:
    with pytest.raises(YAMLError):
        parse_deployed("Resources: {A: !Ref B}")


def described(status: str, outputs: tuple[str, ...] = OUTPUTS) -> DescribedStack:
    listed = [{"OutputKey": name, "OutputValue": name.lower()} for name in outputs]
    stack = {"StackStatus": status, "Outputs": listed}
    return describe_own_stack(SimpleNamespace(describe_stacks=lambda StackName: {"Stacks": [stack]}), "ridecast")  # noqa: N803


def test_own_stack_has_its_outputs() -> None:
    assert described("CREATE_COMPLETE").outputs["BucketName"] == "bucketname"


def test_stack_of_another_project_is_refused_by_the_output_that_it_lacks() -> None:
    with pytest.raises(UserError, match="has no output BucketName, so it is not a ridecast stack"):
        described("UPDATE_COMPLETE", OUTPUTS[:2])


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_stack_without_outputs_has_only_its_status(status: str) -> None:
    stack = described(status, ())
    assert (stack.status, stack.outputs) == (status, {})


FINDINGS = (
    Finding("model", BAD, "channel stable of s3://rides holds no model yet", "`ridecast models release` " + "x" * 70),
    Finding("release", WARNING, "two\nlines and \x1b[31m a colour from elsewhere", "deploy again"),
    Finding("alarm", WARNING, "actions are off", "`aws cloudwatch enable-alarm-actions --alarm-names one-of-them-all`"),
    good("stack", "ridecast is UPDATE_COMPLETE"),
)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    show_findings("ridecast", FINDINGS, as_json=False)
    return capsys.readouterr().out


def test_finding_is_followed_by_its_remedy_and_the_counts_are_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(capsys).splitlines()
    assert lines[0] == "✗ model: channel stable of s3://rides holds no model yet"
    assert lines[1].startswith("  → `ridecast models release` xxx")
    assert lines[2] == r"! release: two lines and \x1b[31m a colour from elsewhere"
    assert lines[-2:] == ["✓ stack: ridecast is UPDATE_COMPLETE", "ridecast: 1 bad, 2 warnings, 1 good"]
    assert len(lines) == 8


@pytest.mark.parametrize("width", [40, 67, 80, 120])
def test_lines_fit_the_terminal_and_no_word_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(capsys)
    words = {word for one in FINDINGS if "\n" not in one.what for word in f"{one.what} {one.remedy}".split()}
    assert words <= set(text.split())
    assert all(len(line) <= width or "x" * 70 in line for line in text.splitlines())


def test_json_counts_every_severity(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings("ridecast", FINDINGS[3:], as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "stack": "ridecast",
        "bad": 0,
        "unknown": 0,
        "warning": 0,
        "good": 1,
        "findings": [
            {"check": "stack", "severity": "good", "what": "ridecast is UPDATE_COMPLETE", "remedy": "", "fault": ""}
        ],
    }


def test_local_stack_is_not_blamed_for_what_only_an_account_has() -> None:
    facts = stack_with(
        is_local=True,
        work=WorkFacts(),
        n_subscribers=0,
        template_diff=("A differs",),
        parameters={**HEALTHY.parameters, "RolloutAlarms": "Ignored"},
        streams=(replace(INPUT, n_records=0), OUTPUT),
    )

    assert problems(facts) == []
    work = next(one for one in check(facts) if one.check == "work")
    assert "the local AWS has no metrics of the function" in work.what


def test_local_stack_keeps_shards_that_were_split_and_the_remedy_says_so() -> None:
    name = next(iter(INPUT.parameters))
    (problem,) = problems(stack_with(is_local=True, parameters={**HEALTHY.parameters, name: "another"}))
    assert problem.fault == "parameters-changed"
    assert "shards that were split or merged stay so" in problem.remedy


@pytest.mark.parametrize("facts", [facts for facts, *_ in PROBLEMS])
def test_fault_of_a_local_stack_is_found_with_a_remedy_that_works_there(facts: StackFacts) -> None:
    in_account = only_problem(facts)
    here = problems(replace(facts, is_local=True))

    of_accounts = {
        "nobody-subscribed",
        "template-differs",
        "resources-drifted",
        "rollout-unwatched",
        "nothing-reported",
    }
    assert [one.fault for one in here] == ([] if in_account.fault in of_accounts else [in_account.fault])
    for one in here:
        assert not re.search(r"--stack|--bucket|`aws |`sam ", one.remedy)
