"""The alarms: their metrics and thresholds, the queue of failed batches, and the topic that gets the messages."""

import re
from itertools import repeat

import pytest

from infra.local.event_source.delivery import FailedBatch, object_key
from infra.local.stack import Stack
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.settings import Settings
from tests.builders import invocation, ride_bytes, small_bundle
from tests.fakes import BUCKET, FakeClock, FakeS3, publish_bundle
from tests.kits.alarms import Properties, Values, evaluated, metrics, sounds, states
from tests.kits.template import arn_of, properties
from tests.outcomes import SERVICE_DOWN
from training.experiments.announce import EXPERIMENT_ANSWER
from training.monitoring.monitor.events import STATE_CHANGE

WATCHED = {
    "FunctionErrorsAlarm": {"Errors"},
    "RetriedRecordsAlarm": {"RetriedRecords"},
    "IteratorAgeAlarm": {"IteratorAge"},
    "ThrottlesAlarm": {"Throttles"},
    "GivenUpBatchesAlarm": {"ApproximateNumberOfMessagesVisible"},
    "UnresolvedBatchesAlarm": {"Invocations"},
    "UndeliveredBatchesAlarm": {"DestinationDeliveryFailures"},
    "RejectShareAlarm": {"Rejects", "Records"},
    "RejectsNotStoredAlarm": {"RejectsNotStored"},
    "RejectsInQueueAlarm": {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"},
    "RefreshFailuresAlarm": {"ModelRefreshFailures"},
    "StaleChannelAlarm": {"StaleChannel"},
    "PublishRetriesAlarm": {"ResentEntries", "PutRecords.TotalRecords"},
    "DurationAlarm": {"Duration"},
    "NoPredictionsAlarm": {"IncomingRecords", "Predictions", "Rejects"},
    "ApiErrorsAlarm": {"5xx", "Count"},
    "ArchiverErrorsAlarm": {"Errors"},
    "ArchiveAgeAlarm": {"IteratorAge"},
    "JoinerErrorsAlarm": {"Errors"},
    "NoLabelledRidesAlarm": {"IncomingRecords", "RideEventsJoined", "LabelledRides"},
    "LostRidesAlarm": {"LostRides"},
    "ConflictingPredictionsAlarm": {"ConflictingPredictions"},
    "SkewedPredictionsAlarm": {"SkewedPredictions"},
    "UnrecomputedRidesAlarm": {"UnrecomputedRides"},
    "DamagedArchiveAlarm": {"DamagedArchiveObjects"},
    "OutcomeRejectsAlarm": {"OutcomeRejects", "LabelledRides"},
    "DataDriftAlarm": {"DataAlarm"},
    "PerformanceAlarm": {"PerformanceAlarm"},
    "CalibrationFrozenAlarm": {"CalibrationFrozen"},
    "MonitorErrorsAlarm": {"Errors", "MonitorFailures"},
    "NoJudgedRidesAlarm": {"IncomingRecords", "HoursWithoutJudgedRides", "Invocations"},
    "LoopFailuresAlarm": {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"},
    "LoopErrorsAlarm": {"Errors"},
    "LoopDurationAlarm": {"Duration"},
}


AUDITS = (
    *("LostRidesAlarm", "ConflictingPredictionsAlarm", "SkewedPredictionsAlarm"),
    *("UnrecomputedRidesAlarm", "DamagedArchiveAlarm", "OutcomeRejectsAlarm"),
)
"""Alarms on facts of an hour that is over; they sound for a day."""

MONITORS = ("DataDriftAlarm", "PerformanceAlarm", "CalibrationFrozenAlarm")
"""Alarms on the state that the monitor has found; they sound until it finds another one."""

LOOP = ("LoopFailuresAlarm", "LoopErrorsAlarm", "LoopDurationAlarm")
"""Alarms on the loop, if there is one."""

_PERIODS = {60: 5, 300: 5, 900: 4, 3600: 24}
"""Periods in seconds, and how many of them an alarm may look at: at most a day."""


def test_every_alarm_exists_and_watches_its_metrics(alarms: dict[str, Properties]) -> None:
    found = {name: {metric["MetricName"] for metric in metrics(alarm)} for name, alarm in alarms.items()}
    assert found == WATCHED


def test_aws_metrics_are_those_of_this_stacks_resources(stack: Stack, alarms: dict[str, Properties]) -> None:
    kinds = {
        "ApiId": "AWS::ApiGatewayV2::Api",
        "FunctionName": "AWS::Lambda::Function",
        "QueueName": "AWS::SQS::Queue",
        "RuleName": "AWS::Events::Rule",
        "StreamName": "AWS::Kinesis::Stream",
    }
    for metric in (metric for alarm in alarms.values() for metric in metrics(alarm) if "AWS/" in metric["Namespace"]):
        (dimension,) = metric["Dimensions"]
        value = dimension["Value"]
        _, value, _ = value.get("Fn::If", ("", value, ""))  # of a stream: its own, or one that exists already
        name = value.get("Ref") or value["Fn::GetAtt"][0]
        assert stack.template["Resources"][name]["Type"] == kinds[dimension["Name"]]


@pytest.mark.parametrize("name", WATCHED)
def test_alarm_defines_missing_data_and_the_number_of_periods(name: str, alarms: dict[str, Properties]) -> None:
    alarm = alarms[name]
    assert alarm["TreatMissingData"] in {"notBreaching", "ignore", "breaching"}
    n_periods = int(alarm["EvaluationPeriods"])
    assert 1 <= int(alarm.get("DatapointsToAlarm", n_periods)) <= n_periods
    periods = {alarm["Period"]} if "Period" in alarm else {
        query["MetricStat"]["Period"] for query in alarm["Metrics"] if "MetricStat" in query
    }  # fmt: skip
    (period_s,) = periods
    assert n_periods <= _PERIODS[period_s]


@pytest.mark.parametrize("name", [name for name, watched in WATCHED.items() if len(watched) > 1])
def test_metric_math_returns_one_series_of_all_its_metrics(name: str, alarms: dict[str, Properties]) -> None:
    queries = alarms[name]["Metrics"]
    (result,) = [query for query in queries if query.get("ReturnData", True)]
    named = set(re.findall(r"\b[a-z][a-z_]*\b", result["Expression"]))
    assert named == {query["Id"] for query in queries if query is not result}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("RejectShareAlarm", {"rejects": 0, "records": 100_000}, False),
        ("RejectShareAlarm", {"rejects": 9, "records": 9}, False),
        ("RejectShareAlarm", {"rejects": 10, "records": 10_000}, False),
        ("RejectShareAlarm", {"rejects": 101, "records": 10_000}, True),
        ("RejectShareAlarm", {"rejects": None, "records": None}, False),
        ("PublishRetriesAlarm", {"resent": 0, "sent": 100_000}, False),
        ("PublishRetriesAlarm", {"resent": 10_000, "sent": 100_000}, False),
        ("PublishRetriesAlarm", {"resent": 10_001, "sent": 100_000}, True),
        ("PublishRetriesAlarm", {"resent": 500, "sent": None}, True),  # the stream can't be reached
        ("NoPredictionsAlarm", {"arrived": 1, "predicted": None, "rejected": None}, True),
        ("NoPredictionsAlarm", {"arrived": 1000, "predicted": 0, "rejected": 0}, True),
        ("NoPredictionsAlarm", {"arrived": 1000, "predicted": 0, "rejected": 499}, True),
        ("NoPredictionsAlarm", {"arrived": 1000, "predicted": 0, "rejected": 1000}, False),  # nothing else arrives
        ("NoPredictionsAlarm", {"arrived": 1000, "predicted": 0, "rejected": 990}, False),  # the rest come later
        ("NoPredictionsAlarm", {"arrived": 1000, "predicted": 1, "rejected": 0}, False),
        ("NoPredictionsAlarm", {"arrived": None, "predicted": None, "rejected": None}, False),
        ("NoPredictionsAlarm", {"arrived": None, "predicted": 9400, "rejected": 0}, False),  # a backlog is processed
        ("ApiErrorsAlarm", {"failed": 4, "asked": 4}, False),
        ("ApiErrorsAlarm", {"failed": 5, "asked": 501}, False),
        ("ApiErrorsAlarm", {"failed": 5, "asked": 500}, True),
        ("ApiErrorsAlarm", {"failed": None, "asked": None}, False),
        ("DurationAlarm", {"duration_ms": 52_999}, False),
        ("DurationAlarm", {"duration_ms": 53_000}, True),
        ("RejectsInQueueAlarm", {"visible": None, "being_read": None}, False),
        ("RejectsInQueueAlarm", {"visible": 0, "being_read": 0}, False),
        ("RejectsInQueueAlarm", {"visible": 1, "being_read": None}, True),
        ("RejectsInQueueAlarm", {"visible": 0, "being_read": 3}, True),  # somebody reads the queue
        ("UndeliveredBatchesAlarm", {"predictor": None, "archive": None}, False),
        ("UndeliveredBatchesAlarm", {"predictor": 1, "archive": None}, True),
        ("UndeliveredBatchesAlarm", {"predictor": None, "archive": 1}, True),
        ("NoLabelledRidesAlarm", {"rides": None, "outcomes": None, "joined": None, "labelled": None}, False),
        ("NoLabelledRidesAlarm", {"rides": 9, "outcomes": None, "joined": None, "labelled": None}, True),
        ("NoLabelledRidesAlarm", {"rides": 9, "outcomes": None, "joined": 0, "labelled": 0}, True),  # none is archived
        ("NoLabelledRidesAlarm", {"rides": 9, "outcomes": None, "joined": 9, "labelled": 0}, False),  # nobody sends any
        ("NoLabelledRidesAlarm", {"rides": 9, "outcomes": 9, "joined": 9, "labelled": 0}, True),
        ("NoLabelledRidesAlarm", {"rides": 9, "outcomes": 9, "joined": 9, "labelled": 1}, False),
        ("OutcomeRejectsAlarm", {"rejects": 9, "labelled": 0}, False),
        ("OutcomeRejectsAlarm", {"rejects": 10, "labelled": None}, True),
        ("OutcomeRejectsAlarm", {"rejects": 10, "labelled": 990}, False),
        ("OutcomeRejectsAlarm", {"rejects": 11, "labelled": 989}, True),
        ("OutcomeRejectsAlarm", {"rejects": None, "labelled": None}, False),
        ("MonitorErrorsAlarm", {"errors": None, "failures": None}, False),
        ("MonitorErrorsAlarm", {"errors": 1, "failures": None}, True),
        ("MonitorErrorsAlarm", {"errors": 0, "failures": 1}, True),
        ("NoJudgedRidesAlarm", {"rides": None, "hours": None, "runs": None}, False),
        ("NoJudgedRidesAlarm", {"rides": None, "hours": 99, "runs": 4}, False),  # no ride comes
        ("NoJudgedRidesAlarm", {"rides": 9, "hours": None, "runs": 4}, False),  # nobody ever sent an outcome
        ("NoJudgedRidesAlarm", {"rides": 9, "hours": 5, "runs": 4}, False),
        ("NoJudgedRidesAlarm", {"rides": 9, "hours": 24, "runs": 4}, True),
        ("NoJudgedRidesAlarm", {"rides": 9, "hours": None, "runs": None}, True),  # the monitor does not run
        ("LoopFailuresAlarm", {"visible": None, "being_read": None}, False),
        ("LoopFailuresAlarm", {"visible": 1, "being_read": None}, True),
        ("LoopFailuresAlarm", {"visible": 0, "being_read": 1}, True),
        ("LoopErrorsAlarm", {"looper": None, "collector": None, "trainer": None}, False),
        ("LoopErrorsAlarm", {"looper": None, "collector": None, "trainer": 1}, False),  # it is repeated
        ("LoopErrorsAlarm", {"looper": None, "collector": 1, "trainer": 1}, True),
        ("LoopErrorsAlarm", {"looper": 2, "collector": None, "trainer": None}, True),
        ("LoopDurationAlarm", {"collector": None, "trainer": None}, False),
        ("LoopDurationAlarm", {"collector": 60_000, "trainer": 720_000}, False),
        ("LoopDurationAlarm", {"collector": 720_001, "trainer": None}, True),
        ("LoopDurationAlarm", {"collector": 60_000, "trainer": 720_001}, True),
        ("IteratorAgeAlarm", {"age_ms": 300_000}, False),
        ("IteratorAgeAlarm", {"age_ms": 300_001}, True),
    ],
)  # fmt: skip
def test_alarm_sounds_when_it_should(
    stack: Stack, alarms: dict[str, Properties], name: str, values: dict[str, float | None], expected: bool
) -> None:
    assert sounds(stack, alarms[name], evaluated(alarms[name], values)) is expected


BREACHES: dict[str, Values] = {
    "IteratorAgeAlarm": {"age_ms": 900_000},
    "RejectShareAlarm": {"rejects": 500, "records": 1000},
    "RejectsInQueueAlarm": {"visible": 1, "being_read": 0},
    "PublishRetriesAlarm": {"resent": 900, "sent": 1000},
    "DurationAlarm": {"duration_ms": 60_000},
    "NoPredictionsAlarm": {"arrived": 1000, "predicted": None, "rejected": None},
    "ApiErrorsAlarm": {"failed": 500, "asked": 500},
    "UndeliveredBatchesAlarm": {"predictor": 1, "archive": None},
    "ArchiveAgeAlarm": 1_800_001.0,
    "NoLabelledRidesAlarm": {"rides": 9, "outcomes": 9, "joined": None, "labelled": None},
    "OutcomeRejectsAlarm": {"rejects": 500, "labelled": 500},
    "MonitorErrorsAlarm": {"errors": 1, "failures": 0},
    "NoJudgedRidesAlarm": {"rides": 9, "hours": 48, "runs": 4},
    "LoopFailuresAlarm": {"visible": 1, "being_read": 0},
    "LoopErrorsAlarm": {"looper": 0, "collector": 0, "trainer": 2},
    "LoopDurationAlarm": {"collector": 60_000, "trainer": 800_000},
}
"""A period that breaches, by alarm; 1 for all others."""


@pytest.mark.parametrize("name", [name for name in WATCHED if name not in {"UnresolvedBatchesAlarm", *MONITORS}])
def test_no_alarm_keeps_sounding_because_rides_stop(stack: Stack, alarms: dict[str, Properties], name: str) -> None:
    """Measured before: IteratorAgeAlarm and RefreshFailuresAlarm sounded until the next ride."""
    breach = BREACHES.get(name, 1.0)
    silence = dict.fromkeys(breach) if isinstance(breach, dict) else None
    n_periods = max(5, alarms[name]["EvaluationPeriods"])
    found = states(stack, alarms[name], [breach] * n_periods + [silence] * n_periods)

    assert (found[n_periods - 1], found[-1]) == ("ALARM", "OK")


@pytest.mark.parametrize("name", [*AUDITS, "LoopErrorsAlarm", "LoopDurationAlarm"])
def test_fault_of_one_hour_sounds_for_a_day_whatever_the_next_hours_show(
    stack: Stack, alarms: dict[str, Properties], name: str
) -> None:
    breach = BREACHES.get(name, 1.0)
    clean: Values = dict.fromkeys(breach, 0.0) if isinstance(breach, dict) else 0.0

    assert states(stack, alarms[name], [breach, *[clean] * 24]) == ["ALARM"] * 24 + ["OK"]


@pytest.mark.parametrize("name", MONITORS)
def test_what_the_monitor_has_found_sounds_until_it_finds_otherwise_whether_it_runs_or_not(
    stack: Stack, alarms: dict[str, Properties], name: str
) -> None:
    days = 4 * 24
    found = states(stack, alarms[name], [0.0, 1.0, *repeat(None, days), 1.0, *repeat(None, days), 0.0, None])

    assert found == ["OK", *repeat("ALARM", 2 * days + 2), "OK", "OK"]


def test_first_hours_of_traffic_are_no_silence(stack: Stack, alarms: dict[str, Properties]) -> None:
    delay_hours = 1 + int(stack.parameters["OutcomeDelayMinutes"]) // 60  # from the end of an hour to its join
    waiting: Values = {"rides": 9, "outcomes": 9, "joined": None, "labelled": None}

    assert set(states(stack, alarms["NoLabelledRidesAlarm"], [waiting] * (1 + delay_hours))) == {"OK"}


def test_blocked_shard_that_is_retried_every_two_minutes_sounds(stack: Stack, alarms: dict[str, Properties]) -> None:
    series: list[Values] = [{"age_ms": 900_000}, {"age_ms": None}] * 10

    assert set(states(stack, alarms["IteratorAgeAlarm"], series)[4::2]) == {"ALARM"}


@pytest.mark.parametrize(
    ("series", "sounded"),
    [
        ([0, 0, 9_400, 0, 0, 0, 9_400, 0, 0], False),  # single batches without an answer of the stream
        ([0, 0, 50, 0, 50, 50], True),
        ([940] * 3, True),  # a canary that gives a tenth of the batches back
        ([None, 1, None, 1, None, 1], True),  # a quiet stack
    ],
    ids=["single batches", "repeatedly", "canary", "quiet"],
)
def test_records_given_back_sound_within_five_minutes(
    stack: Stack, alarms: dict[str, Properties], series: list[Values], sounded: bool
) -> None:
    assert ("ALARM" in states(stack, alarms["RetriedRecordsAlarm"], series)) is sounded


def test_duration_alarm_begins_where_the_function_stops_publishing(stack: Stack, alarms: dict[str, Properties]) -> None:
    for timeout_s in (int(stack.template["Parameters"]["TimeoutSeconds"]["MinValue"]), 60, 900):
        last_ms = 1000 * timeout_s - Settings.deadline_margin_ms
        assert evaluated(alarms["DurationAlarm"], {"duration_ms": last_ms}, timeout_s) == 100


@pytest.mark.parametrize("refresh_s", [1, 60, 3600])
@pytest.mark.parametrize("batches_every_s", [1, 7, 30, 59])
@pytest.mark.parametrize("into_a_minute_s", [0, 30, 59])
def test_failing_channel_sounds_within_five_minutes_of_batches(
    alarms: dict[str, Properties], refresh_s: float, batches_every_s: int, into_a_minute_s: int
) -> None:
    # GIVEN a function with a model, and a channel that can't be read from some second of a minute on
    alarm = alarms["RefreshFailuresAlarm"]
    s3, clock = FakeS3(), FakeClock(now_s=into_a_minute_s - refresh_s)
    publish_bundle(s3, small_bundle())
    store = ModelStore(s3, BUCKET, "stable", refresh_s, clock)
    store.refresh()
    s3.script = [SERVICE_DOWN] * 1000
    # WHEN batches arrive
    clock.sleep(refresh_s)
    failed_minutes = set()
    while clock() < into_a_minute_s + 300 - alarm["Period"]:
        if store.refresh().error:
            failed_minutes.add(clock() // alarm["Period"])
        clock.sleep(batches_every_s)
    # THEN enough minutes with failures are over within five minutes
    assert alarm["EvaluationPeriods"] == 5
    assert len(failed_minutes) >= alarm["DatapointsToAlarm"]


def test_backlog_sounds_long_before_its_batches_fail(stack: Stack) -> None:
    _, own_s, existing_s = stack.template["Resources"]["PredictorRides"]["Properties"]["MaximumRecordAgeInSeconds"][
        "Fn::If"
    ]
    assert 10 * int(stack.parameters["MaxIteratorAgeSeconds"]) < min(own_s, existing_s)


@pytest.mark.parametrize("name", WATCHED)
def test_alarm_names_its_section(name: str, alarms: dict[str, Properties]) -> None:
    assert description_of(alarms[name]).endswith(f". docs/runbook.md#{name.lower()}")


@pytest.mark.parametrize("name", MONITORS)
def test_alarm_of_the_monitor_names_the_command_that_says_what_changed(
    name: str, alarms: dict[str, Properties]
) -> None:
    assert "ridecast monitor status --stack ${AWS::StackName}." in description_of(alarms[name])


def description_of(alarm: Properties) -> str:
    text = alarm["AlarmDescription"]
    return str(text["Fn::Sub"] if isinstance(text, dict) else text)


# The queue of failed batches ------------------------------------------------------------------------------------------


def test_each_failed_batch_sends_a_message(stack: Stack) -> None:
    rule = stack.template["Resources"]["GivenUpBatchesRule"]["Properties"]
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [{"Ref": "Bucket"}]}, "object": {"key": [{"prefix": "aws/lambda/"}]}},
    }
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": ["GivenUpBatches", "Arn"]}]
    failed = FailedBatch(
        records=invocation(ride_bytes())["Records"],
        condition="RecordAgeExceeded",
        n_invocations=1,
        raised=True,
        at_s=0.0,
        object_id="id",
        request_id="id",
    )
    assert object_key(failed, "mapping").startswith("aws/lambda/")


def test_queue_is_encrypted_and_keeps_messages_as_long_as_sqs_allows(stack: Stack) -> None:
    queue = stack.template["Resources"]["GivenUpBatches"]["Properties"]
    assert queue["SqsManagedSseEnabled"] is True
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_failed_batch_sounds_until_an_operator_resets_its_alarm_even_after_its_message_is_gone(
    stack: Stack, alarms: dict[str, Properties]
) -> None:
    """Measured before: both alarms of failed batches ended after 14 days, when SQS deletes the message."""
    days, minutes = 20, 24 * 60
    waiting = [1.0] * 14 * minutes + [0.0] * 6 * 60 + [None] * (6 * minutes - 6 * 60)
    by_queue = states(stack, alarms["GivenUpBatchesAlarm"], waiting)
    unresolved = states(stack, alarms["UnresolvedBatchesAlarm"], [1.0, *repeat(None, days * minutes - 1)])

    assert len(by_queue) == len(unresolved) == days * minutes
    assert (by_queue[0], by_queue[-1]) == ("ALARM", "OK")
    assert set(unresolved) == {"ALARM"}
    assert states(stack, alarms["UnresolvedBatchesAlarm"], [None, None, 1.0, None], "OK")[1:] == [
        "OK",
        "ALARM",
        "ALARM",
    ]


# The topic ------------------------------------------------------------------------------------------------------------


def test_outages_audit_monitor_and_loop_have_an_alarm_each_and_all_send_to_one_topic(
    stack: Stack, alarms: dict[str, Properties]
) -> None:
    parts = {}
    for name in ("StackAlarm", "AuditAlarm", "MonitorAlarm", "LoopAlarm"):
        composite = stack.template["Resources"][name]["Properties"]
        rule = composite["AlarmRule"]["Fn::Sub"]
        assert re.fullmatch(r'ALARM\("\$\{\w+\}"\)( OR ALARM\("\$\{\w+\}"\))*', rule)
        assert composite["AlarmActions"] == composite["OKActions"] == [{"Ref": "AlarmTopic"}]
        parts[name] = set(re.findall(r"\$\{(\w+)\}", rule))
    assert parts["AuditAlarm"] == set(AUDITS)  # apart: an alarm of a day would hide an outage
    assert parts["MonitorAlarm"] == set(MONITORS)  # apart: an alarm of weeks would hide more
    assert parts["LoopAlarm"] == set(LOOP)
    assert parts["StackAlarm"] == alarms.keys() - {*AUDITS, *MONITORS, *LOOP}
    assert not any(key.endswith("Actions") for alarm in alarms.values() for key in alarm)


def test_topic_is_encrypted_with_a_key_that_cloudwatch_may_use(stack: Stack) -> None:
    assert stack.only("AWS::SNS::Topic")["KmsMasterKeyId"] == {"Ref": "AlarmKey"}
    key = stack.template["Resources"]["AlarmKey"]["Properties"]
    assert key["EnableKeyRotation"] is True
    administers, encrypts, encrypts_events = key["KeyPolicy"]["Statement"]
    assert not {"kms:*", "kms:Decrypt", "kms:CreateGrant"} & set(administers["Action"])
    assert encrypts["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert encrypts["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert encrypts["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert encrypts_events["Principal"] == {"Service": "events.amazonaws.com"}
    assert encrypts_events["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert "Condition" not in encrypts_events  # SNS does not support one: the events would not arrive


def test_what_the_monitor_finds_and_an_experiment_answers_is_sent_to_the_topic_in_a_sentence(
    stack: Stack,
) -> None:
    rule = stack.template["Resources"]["MonitorStateRule"]["Properties"]
    assert rule["EventPattern"] == {
        "source": ["ridecast"],
        "detail-type": [STATE_CHANGE, EXPERIMENT_ANSWER],
        "detail": {"stack": [{"Ref": "AWS::StackName"}]},
    }
    (target,) = rule["Targets"]
    assert (target["Arn"], target["InputPath"]) == ({"Ref": "AlarmTopic"}, "$.detail.text")


@pytest.mark.parametrize(
    ("receiver", "key", "action", "sources"),
    [
        ("GivenUpBatches", "Queues", "sqs:SendMessage", {"events": arn_of("GivenUpBatchesRule")}),
        (
            "AlarmTopic",
            "Topics",
            "sns:Publish",
            {
                "cloudwatch": [arn_of(f"{name}Alarm") for name in ("Stack", "Audit", "Monitor", "Loop")],
                "events": [arn_of("MonitorStateRule"), arn_of("LoopStepRule")],
            },
        ),
    ],
)
def test_only_the_stacks_own_sources_may_send_and_only_over_tls(
    receiver: str, key: str, action: str, sources: dict[str, object]
) -> None:
    policy = properties(f"{receiver}Policy", LoopMode="on")
    *allowed, denied = policy["PolicyDocument"]["Statement"]
    assert policy[key] == [{"Ref": receiver}]
    for one, (service, source) in zip(allowed, sources.items(), strict=True):
        assert (one["Effect"], one["Action"]) == ("Allow", action)
        assert one["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert one["Condition"] == {"ArnEquals": {"aws:SourceArn": source}}
    assert denied["Effect"] == "Deny"
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_people_should_know_of_a_run_of_the_loop_is_sent_to_the_topic_in_a_sentence(stack: Stack) -> None:
    rule = stack.template["Resources"]["LoopStepRule"]["Properties"]
    assert rule["EventPattern"] == {
        "source": ["ridecast"],
        "detail-type": ["ridecast loop step"],
        "detail": {"stack": [{"Ref": "AWS::StackName"}], "tell": [True]},
    }
    (target,) = rule["Targets"]
    assert (target["Arn"], target["InputPath"]) == ({"Ref": "AlarmTopic"}, "$.detail.text")


def test_address_is_subscribed_if_there_is_one(stack: Stack) -> None:
    subscription = stack.template["Resources"]["AlarmSubscription"]
    assert subscription["Condition"] == "HasAlarmEmail"
    assert stack.template["Conditions"]["HasAlarmEmail"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}
    assert stack.parameters["AlarmEmail"] == ""
    assert subscription["Properties"]["TopicArn"] == {"Ref": "AlarmTopic"}


@pytest.mark.parametrize(
    ("address", "is_taken"), [("", True), ("rides@example.com", True), ("rides", False), ("a@b.com c@d.com", False)]
)
def test_address_is_checked(stack: Stack, address: str, is_taken: bool) -> None:
    pattern = stack.template["Parameters"]["AlarmEmail"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, address)) is is_taken
