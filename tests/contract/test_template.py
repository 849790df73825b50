"""The functions, mapping, parameters and outputs of the translated template. moto ignores half of these properties."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from infra.local.stack import Stack
from infra.stack.template import TEMPLATE, read_template
from tests.kits.metrics import in_stack
from tests.kits.template import LOOP, OWN, arn_of, of_type, properties, resource, stack, tags_of
from training.data.labelled import COLUMNS, FOLDER

ROOT = TEMPLATE.parent
MAPPING = "PredictorRides"
JSON_LOGS = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
OUTPUTS = {
    "ArchiverName": {"Ref": "Archiver"},
    "JoinerName": {"Ref": "Joiner"},
    "MonitorName": {"Ref": "Monitor"},
    "LooperName": {"Ref": "Looper"},
    "LooperAliasArn": {"Ref": "LooperAliaslive"},
    "CollectorName": {"Ref": "Collector"},
    "TrainerName": {"Ref": "Trainer"},
    "LoopFailuresUrl": {"Ref": "LoopFailures"},
    "LabelledDatabaseName": {"Ref": "LabelledDatabase"},
    "AlarmTopicArn": {"Ref": "AlarmTopic"},
    "ApiFunctionName": {"Ref": "ApiFunction"},
    "ApiUrl": {"Fn::GetAtt": ["Api", "ApiEndpoint"]},
    "BucketName": {"Ref": "Bucket"},
    "FunctionAliasArn": {"Ref": "PredictorAliaslive"},
    "FunctionName": {"Ref": "Predictor"},
    "GivenUpBatchesUrl": {"Ref": "GivenUpBatches"},
    "KeyArn": arn_of("Key"),
    "RejectsQueueUrl": {"Ref": "RejectsQueue"},
    "ModelActivationDelaySeconds": {"Ref": "ModelActivationDelaySeconds"},
    "RideEventsArn": arn_of("RideEvents"),
    "RideEventsStream": {"Ref": "RideEvents"},
    "RideOutcomesArn": arn_of("RideOutcomes"),
    "RideOutcomesStream": {"Ref": "RideOutcomes"},
    "RidePredictionsArn": arn_of("RidePredictions"),
    "RidePredictionsStream": {"Ref": "RidePredictions"},
}


@pytest.mark.parametrize(
    ("name", "module", "logs"),
    [
        ("Predictor", "lambda_function.handler", "PredictorLogs"),
        ("PreTraffic", "lambda_function.pre_traffic", "PreTrafficLogs"),
        ("Archiver", "lambda_function.archive", "ArchiverLogs"),
    ],
)
def test_function_is_a_zip_of_lambda_function_with_json_logs_on_arm64_by_default(
    name: str, module: str, logs: str
) -> None:
    source, found = read_template(TEMPLATE)["Resources"][name], properties(name)

    assert source["Properties"]["CodeUri"] == "lambda_function/"
    assert source["Metadata"] == {
        "BuildMethod": found["Runtime"],
        "BuildProperties": {"ParentPackageMode": "explicit", "ParentPackages": "lambda_function"},
    }
    assert (
        found
        | {
            "PackageType": "Zip",
            "Handler": f"{module}.lambda_handler",
            "Architectures": [{"Ref": "Architecture"}],
            # Lambda treats a line without a level, such as a metric, as INFO: a higher level would drop metrics.
            "LoggingConfig": {"LogGroup": {"Ref": logs}, **JSON_LOGS},
            "TracingConfig": {"Mode": "PassThrough"},  # no trace of its own
        }
        == found
    )
    assert stack().parameters["Architecture"] == "arm64"
    assert Stack(parameters={"Architecture": "x86_64"}).parameters["Architecture"] == "x86_64"


def test_function_environment_has_exactly_these_settings() -> None:
    assert properties("Predictor")["Environment"]["Variables"] == {
        "OUTPUT_STREAM": {"Ref": "RidePredictions"},
        "BUCKET": {"Ref": "Bucket"},
        "REJECTS_QUEUE_URL": {"Ref": "RejectsQueue"},
        "MODEL_CHANNEL": {"Ref": "ModelChannel"},
        "MODEL_REFRESH_S": {"Ref": "ModelRefreshSeconds"},
        "MODEL_ACTIVATION_DELAY_S": {"Ref": "ModelActivationDelaySeconds"},
        "MODEL_SIGNING_KEY": {"Ref": "ModelSigningKeyArn"},
        "OUTPUT_FORMAT": {"Ref": "OutputFormat"},
        "OUTPUT_GROUPS": {"Ref": "RidePredictionsShards"},
        "LOG_LEVEL": {"Ref": "LogLevel"},
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "POWERTOOLS_SERVICE_NAME": {"Ref": "AWS::StackName"},
        "POWERTOOLS_METRICS_NAMESPACE": "ridecast",
    }


@pytest.mark.parametrize(
    ("name", "module", "memory"), [("Joiner", "join", "JoinMemoryMb"), ("Monitor", "monitor", "MonitorMemoryMb")]
)
def test_functions_of_training_have_one_package_with_json_logs_on_arm64_by_default(
    name: str, module: str, memory: str
) -> None:
    source, found = read_template(TEMPLATE)["Resources"][name], properties(name)

    assert source["Metadata"] == {"BuildMethod": found["Runtime"]}
    assert source["Properties"]["CodeUri"] == "infra/stack/packages/joiner/"
    assert (
        found
        | {
            "Handler": f"training.functions.{module}.lambda_handler",
            "Architectures": [{"Ref": "Architecture"}],
            "MemorySize": {"Ref": memory},
            "Timeout": 900,
            "LoggingConfig": {"LogGroup": {"Ref": f"{name}Logs"}, **JSON_LOGS},
            "TracingConfig": {"Mode": "PassThrough"},
        }
        == found
    )
    assert stack().parameters["JoinMemoryMb"] == "3008"  # the most of a new account


@pytest.mark.parametrize(("name", "word"), [("Joiner", "join"), ("Monitor", "monitor")])
def test_function_runs_every_quarter_of_an_hour_and_a_failed_run_is_not_repeated(name: str, word: str) -> None:
    schedule = properties(f"{name}Schedule")

    assert schedule["ScheduleExpression"] == "rate(15 minutes)"
    assert schedule["Name"] == {"Fn::Sub": f"${{AWS::StackName}}-{word}"}
    assert schedule["Target"]["Arn"] == arn_of(name)
    assert schedule["Target"]["RoleArn"] == arn_of(f"{word.capitalize()}ScheduleRole")
    assert properties(f"{name}EventInvokeConfig")["MaximumRetryAttempts"] == 0


def test_monitor_calibrates_daily_by_default_and_can_be_told_not_to() -> None:
    parameter = stack().template["Parameters"]["CalibrationMode"]

    assert (parameter["Default"], parameter["AllowedValues"]) == ("daily", ["off", "daily", "hourly"])
    assert properties("Monitor")["Environment"]["Variables"]["CALIBRATION_MODE"] == {"Ref": "CalibrationMode"}


def test_table_of_labelled_rides_has_the_files_columns_and_computes_its_partitions() -> None:
    table = properties("LabelledTable")["TableInput"]
    parameters, storage = table["Parameters"], table["StorageDescriptor"]
    hour = parameters["storage.location.template"]["Fn::Sub"].replace("${Bucket}", "b")
    key = hour.replace("${!dt}", "2026-08-01").replace("${!hh}", "09")

    assert storage["Columns"] == [{"Name": column.name, "Type": column.glue} for column in COLUMNS]
    assert [column["Name"] for column in table["PartitionKeys"]] == ["dt", "hh"]
    assert key == f"s3://b/{FOLDER}/dt=2026-08-01/hh=09/"
    assert storage["Location"] == {"Fn::Sub": f"s3://${{Bucket}}/{FOLDER}/"}
    assert (parameters["projection.enabled"], parameters["projection.hh.range"]) == ("true", "0,23")
    assert (parameters["projection.hh.digits"], parameters["projection.dt.format"]) == ("2", "yyyy-MM-dd")
    assert parameters["projection.dt.range"] == {"Fn::Sub": "NOW-${LabelledDays}DAYS,NOW+1DAYS"}
    assert "Parquet" in storage["SerdeInfo"]["SerializationLibrary"]


def test_service_names_differ_between_functions_and_stacks() -> None:
    functions = of_type("AWS::Lambda::Function", **LOOP).values()
    names = [one["Properties"]["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] for one in functions]
    words = ("api", "pre-traffic", "archive", "join", "monitor", "loop", "collect", "train")
    stacks = ("ridecast", *(f"ridecast-{name}" for name in words))
    services = {in_stack(stack_name, name) for stack_name in stacks for name in names}

    assert len(names) == 9
    assert len(services) == len(stacks) * len(names)


def test_on_demand_stream_has_groups_for_added_shards() -> None:
    on_demand = properties("Predictor", StreamMode="ON_DEMAND")
    assert on_demand["Environment"]["Variables"]["OUTPUT_GROUPS"] == 16


def test_memory_timeout_and_concurrency_are_parameters_with_measured_defaults() -> None:
    function = properties("Predictor")

    assert (function["MemorySize"], function["Timeout"]) == ({"Ref": "MemoryMb"}, {"Ref": "TimeoutSeconds"})
    assert (stack().parameters["MemoryMb"], stack().parameters["TimeoutSeconds"]) == ("1769", "60")
    assert "ReservedConcurrentExecutions" not in function
    reserved = properties("Predictor", ReservedConcurrency=4)
    assert reserved["ReservedConcurrentExecutions"] == {"Ref": "ReservedConcurrency"}


def test_published_versions_start_from_a_snapshot_unless_the_region_has_none() -> None:
    assert properties("Predictor")["SnapStart"] == {"ApplyOn": {"Ref": "SnapStart"}}
    assert stack().parameters["SnapStart"] == "PublishedVersions"
    assert stack().template["Parameters"]["SnapStart"]["AllowedValues"] == ["PublishedVersions", "None"]


# The mapping: a reason for each property is in docs/decisions/0014 ----------------------------------------------------


def test_mapping_has_exactly_these_properties() -> None:
    assert properties(MAPPING) == {
        "EventSourceArn": arn_of("RideEvents"),
        "FunctionName": {"Ref": "PredictorAliaslive"},
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": {"Ref": "BatchSize"},
        "MaximumBatchingWindowInSeconds": {"Ref": "BatchWindowSeconds"},
        "ParallelizationFactor": {"Ref": "ParallelizationFactor"},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRecordAgeInSeconds": 86_400,
        "MaximumRetryAttempts": -1,
        "DestinationConfig": {"OnFailure": {"Destination": arn_of("Bucket")}},
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }
    defaults = ("BatchSize", "BatchWindowSeconds", "ParallelizationFactor")
    assert [stack().parameters[name] for name in defaults] == ["10000", "1", "1"]


@pytest.mark.parametrize(
    ("name", "stream"),
    [("Rides", "RideEvents"), ("Predictions", "RidePredictions"), ("Outcomes", "RideOutcomes")],
)
def test_archive_reads_each_stream_as_the_predictor_does_but_takes_batches_as_a_whole(name: str, stream: str) -> None:
    as_the_predictor = dict(properties(MAPPING))
    del as_the_predictor["FunctionResponseTypes"]  # it raises: a batch is stored, or comes again
    del as_the_predictor["MetricsConfig"]  # six metrics for $1.80 a month, which no alarm reads
    del as_the_predictor["ParallelizationFactor"]

    assert properties(f"Archiver{name}") == {
        **as_the_predictor,
        "EventSourceArn": arn_of(stream),
        "FunctionName": {"Ref": "Archiver"},
        "BatchSize": 10_000,
        "MaximumBatchingWindowInSeconds": {"Ref": "ArchiveWindowSeconds"},
    }
    assert stack().parameters["ArchiveWindowSeconds"] == "60"
    enhanced = properties(f"Archiver{name}", EnhancedFanOut="On")
    assert enhanced["EventSourceArn"] == {"Ref": f"{stream}Consumer"}
    assert properties(f"{stream}Consumer", EnhancedFanOut="On")["StreamARN"] == arn_of(stream)


def test_streams_have_no_consumers_of_their_own_without_enhanced_fan_out() -> None:
    assert not of_type("AWS::Kinesis::StreamConsumer")


def test_decision_gives_a_reason_for_each_property_of_the_mapping() -> None:
    record = (ROOT / "docs/decisions/0014-the-mapping.md").read_text(encoding="utf-8")

    assert [name for name in properties(MAPPING) if f"`{name}`" not in record] == []


def test_batch_fails_while_half_of_the_streams_retention_is_left() -> None:
    retention_s = properties("RideEvents")["RetentionPeriodHours"] * 3600

    assert properties(MAPPING)["MaximumRecordAgeInSeconds"] <= retention_s / 2


# Parameters, tags and outputs -----------------------------------------------------------------------------------------


def test_every_parameter_is_described_bounded_and_has_a_default() -> None:
    for name, parameter in stack().template["Parameters"].items():
        bounds = parameter.keys() & {"AllowedValues", "AllowedPattern", "MinValue", "MaxValue"}
        assert len(parameter.get("Description", "")) > 20, name
        assert bounds, name
        assert "Default" in parameter, name


@pytest.mark.parametrize("name", OWN)
def test_resource_is_tagged_with_project_and_environment(name: str) -> None:
    tags = tags_of(properties(name, **LOOP))

    assert (tags["project"], tags["environment"]) == ("ridecast", {"Ref": "Environment"})


@pytest.mark.parametrize(("environment", "confirms"), [("default", True), ("dev", False), ("prod", True)])
def test_samconfig_deploys_an_environment_with_parameters_that_the_template_has(
    environment: str, confirms: bool
) -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))[environment]
    deploy = config["deploy"]["parameters"]
    parameters = dict(word.split("=") for word in deploy["parameter_overrides"].split())
    expected = "dev" if environment == "default" else environment

    assert Stack(parameters=parameters).parameters["Environment"] == expected
    # Explicit: otherwise the values of an undo or a fix would stay.
    assert (parameters["CodeRollout"], parameters["RolloutAlarms"]) == ("ByEnvironment", "Watched")
    assert deploy["tags"] == f"project=ridecast environment={expected}"
    assert (deploy["capabilities"], deploy["confirm_changeset"]) == ("CAPABILITY_IAM", confirms)


def test_every_output_is_described_and_exported_under_the_stacks_name() -> None:
    outputs = stack(**LOOP).decided["Outputs"]

    assert {name: output["Value"] for name, output in outputs.items()} == OUTPUTS
    for name, output in outputs.items():
        assert output["Export"] == {"Name": {"Fn::Sub": f"${{AWS::StackName}}-{name}"}}
        assert output["Description"].endswith("."), name


def test_each_function_has_its_own_role() -> None:
    roles = [str(function["Properties"]["Role"]) for function in of_type("AWS::Lambda::Function", **LOOP).values()]

    assert len(set(roles)) == len(roles)
    assert resource("Predictor")["Properties"]["Role"] == arn_of("PredictorRole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("ShardCount: !If", "ShardCuont: !If", "E3002"),
        ("SSEAlgorithm: aws:kms", "SSEAlgorithm: aws:kmz", "E3030"),
        ("      RetentionPeriodHours: 48\n", "", "I3013"),
        (
            "    UpdateReplacePolicy: Retain\n    Properties:\n      BucketName",
            "    Properties:\n      BucketName",
            "W3011",
        ),
        ("!Ref FunctionErrorsAlarm", "!Ref FunctionErrrorsAlarm", "E1020"),
    ],
    ids=[
        "misspelt property",
        "unknown value",
        "data without a deletion policy",
        "data without an update policy",
        "missing alarm",
    ],
)
def test_lint_finds_a_planted_mistake(tmp_path: Path, good: str, bad: str, rule: str) -> None:
    lint = import_module("infra.stack.lint")  # cfn-lint takes seconds to import
    text = TEMPLATE.read_text(encoding="utf-8")
    assert good in text
    path = tmp_path / "template.yaml"
    path.write_text(text.replace(good, bad), encoding="utf-8")

    assert rule in {finding.split()[0] for finding in lint.findings(path)}
