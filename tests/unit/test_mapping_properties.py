"""The event source mapping's properties, as the local mapping takes them: all of them, or a clear refusal."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TemplateError
from infra.local.event_source.config import MappingConfig
from infra.local.stack import mapping_config

PATH = Path("template.yaml")
REQUIRED = {"EventSourceArn": "rides", "FunctionName": "predictor", "StartingPosition": "LATEST"}


def read(**properties: Any) -> MappingConfig:
    return mapping_config(PATH, REQUIRED | properties)


def test_every_property_is_taken() -> None:
    config = read(
        BatchSize=7,
        MaximumBatchingWindowInSeconds=2,
        ParallelizationFactor=10,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=3,
        MaximumRecordAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::failures"}},
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )

    assert config == MappingConfig(
        stream_name="rides",
        batch_size=7,
        batching_window_s=2,
        starting_position="LATEST",
        parallelization_factor=10,
        bisect_on_error=True,
        maximum_retry_attempts=3,
        maximum_record_age_s=60,
        on_failure_bucket="failures",
        report_batch_item_failures=True,
        function_name="predictor",
    )


def test_reading_may_begin_at_a_time() -> None:
    config = read(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1_609_834_500)

    assert config.starting_position == datetime(2021, 1, 5, 8, 15, tzinfo=UTC)


def test_function_may_be_named_by_its_arn() -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:predictor:live"

    assert read(FunctionName=arn).function_name == "predictor:live"


def test_metrics_of_the_mapping_are_cloudwatchs() -> None:
    assert read(MetricsConfig={"Metrics": ["EventCount"]}) == read()


@pytest.mark.parametrize("name", ["FilterCriteria", "TumblingWindowInSeconds"])
def test_property_that_is_not_emulated_is_refused_by_name(name: str) -> None:
    with pytest.raises(TemplateError, match=rf"template\.yaml gives the event source mapping {name}"):
        read(**{name: {"Filters": []}})


def test_destination_other_than_s3_is_refused() -> None:
    with pytest.raises(TemplateError, match="only S3 is known locally"):
        read(DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:123456789012:failures"}})
