"""The loop in the translated template: off by default, durable, started by schedule and alarms. moto drops half."""

import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.stack.template import TEMPLATE, read_template
from tests.contract.test_template_rollout import DESCRIPTION_CHARACTERS, LONGEST, parameters_in
from tests.kits.template import LOOP, SIGNING_KEY, arn_of, of_type, properties, resource, stack, statements
from training.monitoring.monitor.events import state_changes
from training.monitoring.monitor.status import GroupStatus, MonitorStatus
from training.workflows.loop.checkpoints import RETRY_DELAYS_S
from training.workflows.loop.flow import SLACK_DAYS
from training.workflows.loop.options import DAY_S, LoopOptions

ALIAS = {"Ref": "LooperAliaslive"}
FUNCTIONS = ("Looper", "Collector", "Trainer")
OF_THE_LOOP = re.compile("Loop|Trainer|Collector")
OPTION_OF = {
    "LoopApproval": "approval",
    "LoopUndecided": "undecided",
    "LoopBudgetDays": "budget_days",
    "LoopWatchDays": "watch_days",
    "LoopCooldownDays": "cooldown_days",
    "TrainingDays": "training_days",
    "CalibrationMode": "calibration_mode",
    "ModelChannel": "channel",
    "ModelActivationDelaySeconds": "activation_delay_s",
}
"""The options of the loop that are parameters."""

LONGEST_HERE = {
    **{name: LONGEST[name] for name in ("ModelChannel", "ModelActivationDelaySeconds", "BucketName", "LogLevel")},
    "Architecture": "x86_64",
    "CalibrationMode": "hourly",
    "LoopApproval": "manual",
    "LoopUndecided": "promote",
    "LoopBudgetDays": "90",
    "LoopWatchDays": "30",
    "LoopCooldownDays": "90",
    "TrainingDays": "1100",
}


def looper() -> dict[str, Any]:
    return properties("Looper", **LOOP)


def version() -> dict[str, Any]:
    (found,) = [one for name, one in of_type("AWS::Lambda::Version", **LOOP).items() if name.startswith("Looper")]
    return found


def test_loop_is_off_by_default_and_then_nothing_of_it_exists() -> None:
    off, on = stack(), stack(**LOOP)
    added = {name for section in ("Resources", "Outputs") for name in on.decided[section].keys() - off.decided[section]}

    assert off.parameters["LoopMode"] == "off"
    assert {*FUNCTIONS, "LooperSchedule", "LoopOnAlarmRule", "LoopFailures", "LooperAliasArn"} <= added
    assert all(OF_THE_LOOP.search(name) for name in added)
    assert not [name for name in off.decided["Resources"] if OF_THE_LOOP.search(name)]
    text = json.dumps([off.decided["Resources"], off.decided["Outputs"]])
    assert not [name for name in added if re.search(rf'"Ref": "{name}"|\["{name}", |\$\{{{name}[.}}]', text)]


def test_looper_is_durable_from_its_creation_on() -> None:
    assert looper()["DurableConfig"].keys() == {"ExecutionTimeout", "RetentionPeriodInDays"}
    assert 1 <= looper()["DurableConfig"]["RetentionPeriodInDays"] <= 90  # Lambda's limit
    assert "DurableConfig" not in {key for name in ("Collector", "Trainer") for key in properties(name, **LOOP)}


def test_execution_may_take_as_long_as_the_longest_run_with_all_its_retries() -> None:
    declared, options = stack().template["Parameters"], LoopOptions()
    days = declared["LoopBudgetDays"]["MaxValue"] + declared["LoopWatchDays"]["MaxValue"] + 2 * SLACK_DAYS
    n_steps = days + 20
    longest_s = days * DAY_S + options.approval_timeout_s + 4 * options.answer_timeout_s + n_steps * 900

    assert looper()["DurableConfig"]["ExecutionTimeout"] > longest_s + 10 * sum(RETRY_DELAYS_S)


def test_execution_keeps_the_version_that_it_began_with() -> None:
    """A deployment removes the version from the template, and another parameter replaces it: neither deletes it."""
    assert (version()["DeletionPolicy"], version()["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert resource("LooperAliaslive", **LOOP)["Properties"]["FunctionName"] == {"Ref": "Looper"}


def test_each_parameter_of_the_loopers_configuration_makes_a_new_version() -> None:
    template = stack().template
    function = dict(template["Resources"]["Looper"]["Properties"])
    del function["Tags"]
    used = parameters_in(function, set(template["Parameters"]))

    assert used == {*LONGEST_HERE, "ModelSigningKeyArn"}
    assert parameters_in(version()["Properties"]["Description"], set(template["Parameters"])) == used


def test_description_that_makes_a_new_version_is_never_too_long() -> None:
    text, values = version()["Properties"]["Description"]["Fn::Sub"]
    assert values.keys() == {"SigningKey"}
    for name, value in {**LONGEST_HERE, "SigningKey": "k" * 36}.items():
        text = text.replace(f"${{{name}}}", value)

    assert "$" not in text
    assert len(text) <= DESCRIPTION_CHARACTERS
    for name, value in LONGEST_HERE.items():
        limits = stack().template["Parameters"][name]
        assert len(str(limits.get("MaxValue", ""))) <= len(value), name
        assert all(len(str(one)) <= len(value) for one in limits.get("AllowedValues", ())), name


def test_parameters_have_the_defaults_of_the_loops_options() -> None:
    defaults, parameters = LoopOptions(), stack().parameters
    assert set(OPTION_OF.values()) < {one.name for one in fields(LoopOptions)}
    for parameter, option in OPTION_OF.items():
        value = getattr(defaults, option)
        assert type(value)(parameters[parameter]) == value, parameter


def test_fewest_training_days_are_enough_for_a_model() -> None:
    assert stack().template["Parameters"]["TrainingDays"]["MinValue"] == 28 + 7 + LoopOptions().gate_days
    assert stack().template["Parameters"]["LoopBudgetDays"]["MinValue"] == 7  # the first look


# What starts it -------------------------------------------------------------------------------------------------------


def test_schedule_starts_the_alias_and_says_so() -> None:
    schedule = properties("LooperSchedule", **LOOP)
    text = schedule["Target"]["Input"]["Fn::Sub"].replace("${LoopSchedule}", stack().parameters["LoopSchedule"])

    assert schedule["ScheduleExpression"] == {"Ref": "LoopSchedule"}
    assert (schedule["Target"]["Arn"], schedule["Target"]["RoleArn"]) == (ALIAS, arn_of("LoopScheduleRole"))
    assert json.loads(text) == {
        "trigger": "schedule",
        "id": "<aws.scheduler.execution-id>",  # the scheduler fills it in
        "reason": "LoopSchedule cron(0 12 1 * ? *)",
    }


@pytest.mark.parametrize(
    ("expression", "is_taken"),
    [
        ("cron(0 12 1 * ? *)", True),
        ("cron(0 6 ? * MON#1 *)", True),
        ("cron(15 10 L * ? 2026-2030)", True),
        ("rate(30 days)", True),
        ("at(2026-11-20T13:00:00)", False),
        ('rate(30 days)", "x": "', False),  # it is part of a JSON text
        ("", False),
    ],
)
def test_expression_is_checked(expression: str, is_taken: bool) -> None:
    pattern = read_template(TEMPLATE)["Parameters"]["LoopSchedule"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, expression)) is is_taken


def test_alarm_of_the_monitor_on_data_or_performance_starts_a_run() -> None:
    rule = properties("LoopOnAlarmRule", **LOOP)
    pattern = rule["EventPattern"]
    permission = properties("LoopOnAlarmPermission", **LOOP)
    groups = tuple(GroupStatus(group=name, state="alarm") for name in ("data", "performance"))
    status = MonitorStatus(written_at=datetime(2026, 8, 1, tzinfo=UTC).isoformat(), channel="stable", groups=groups)
    changes = state_changes(None, status, "ridecast")

    assert {one.detail["group"] for one in changes} == set(pattern["detail"]["group"])
    for change in changes:
        assert [change.detail_type] == pattern["detail-type"]
        assert [change.detail["state"]] == pattern["detail"]["state"]
        assert pattern["detail"].keys() <= change.detail.keys()
    assert (pattern["detail"]["stack"], pattern["detail"]["channel"]) == (
        [{"Ref": "AWS::StackName"}],
        [{"Ref": "ModelChannel"}],
    )
    assert [target["Arn"] for target in rule["Targets"]] == [ALIAS]
    assert (permission["FunctionName"], permission["SourceArn"]) == (ALIAS, arn_of("LoopOnAlarmRule"))
    assert (permission["Principal"], permission["Action"]) == ("events.amazonaws.com", "lambda:InvokeFunction")


# What fails -----------------------------------------------------------------------------------------------------------


def test_events_that_fail_for_good_go_to_the_queue() -> None:
    queue = arn_of("LoopFailures")

    assert looper()["DeadLetterConfig"] == {"TargetArn": queue}  # a durable function has no other destination
    assert properties("LooperEventInvokeConfig", **LOOP)["MaximumRetryAttempts"] == 0
    for name in ("Collector", "Trainer"):
        invoked = properties(f"{name}EventInvokeConfig", **LOOP)
        assert invoked["DestinationConfig"] == {"OnFailure": {"Destination": queue}}
        assert invoked["MaximumRetryAttempts"] == 1  # a repeat gives the same answer
    for role in ("LooperRole", "CollectorRole", "TrainerRole"):  # Lambda sends with the function's role
        assert statements(role, **LOOP)["ReportFailedEvents"]["Resource"] == queue


def test_queue_is_encrypted_used_over_tls_only_and_keeps_events_as_long_as_sqs_can() -> None:
    queue = properties("LoopFailures", **LOOP)
    (denied,) = properties("LoopFailuresPolicy", **LOOP)["PolicyDocument"]["Statement"]

    assert (queue["SqsManagedSseEnabled"], queue["MessageRetentionPeriod"]) == (True, 14 * 24 * 3600)
    assert (denied["Effect"], denied["Action"], denied["Resource"]) == ("Deny", "sqs:*", arn_of("LoopFailures"))
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# Functions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package", "module", "memory", "timeout_s"),
    [
        ("Looper", "looper", "loop", 512, 300),
        ("Collector", "joiner", "collect", {"Ref": "JoinMemoryMb"}, 900),
        ("Trainer", "trainer", "train", {"Ref": "TrainerMemoryMb"}, 900),
    ],
)
def test_function_is_a_zip_of_its_package_with_json_logs(
    name: str, package: str, module: str, memory: object, timeout_s: int
) -> None:
    source, found = read_template(TEMPLATE)["Resources"][name], properties(name, **LOOP)

    assert source["Metadata"]["BuildMethod"] == found["Runtime"]
    assert source["Properties"]["CodeUri"] == f"infra/stack/packages/{package}/"
    assert (found["Handler"], found["MemorySize"], found["Timeout"]) == (
        f"training.functions.{module}.lambda_handler",
        memory,
        timeout_s,
    )
    assert found["Architectures"] == [{"Ref": "Architecture"}]
    assert found["TracingConfig"] == {"Mode": "PassThrough"}
    assert found["LoggingConfig"]["LogGroup"] == {"Ref": f"{name}Logs"}


def test_looper_knows_its_workers_by_name_and_its_models_by_their_key() -> None:
    variables = properties("Looper", ModelSigningKeyArn=SIGNING_KEY, **LOOP)["Environment"]["Variables"]

    assert (variables["COLLECTOR_FUNCTION"], variables["TRAINER_FUNCTION"]) == (
        {"Ref": "Collector"},
        {"Ref": "Trainer"},
    )
    assert variables["MODEL_SIGNING_KEY"] == {"Ref": "ModelSigningKeyArn"}
