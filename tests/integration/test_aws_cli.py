"""AWS's command line against the local AWS, in the course's own words: put a ride event, read its prediction."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping, settle
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack
from tests.builders import small_bundle
from tests.fakes import publish_bundle

STACK_PARAMETERS = {"BatchWindowSeconds": 0}

# The course's iterator is JSON, with quotes around it; with --output text it has none.

PUT = """
set -euo pipefail
KINESIS_STREAM_INPUT='ride-events'
aws kinesis put-record \
    --stream-name ${KINESIS_STREAM_INPUT} \
    --partition-key 1 \
    --data '{
        "ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66},
        "ride_id": 156
    }'
"""
GET = """
set -euo pipefail
KINESIS_STREAM_OUTPUT='ride-predictions'
SHARD='shardId-000000000000'
SHARD_ITERATOR=$(aws kinesis \
    get-shard-iterator \
        --shard-id ${SHARD} \
        --shard-iterator-type TRIM_HORIZON \
        --stream-name ${KINESIS_STREAM_OUTPUT} \
        --query 'ShardIterator' %s)
aws kinesis get-records --shard-iterator $SHARD_ITERATOR
"""


def bash(script: str, environment: dict[str, str]) -> dict[str, Any]:
    """Run a script and return its JSON."""
    command = ["/bin/bash", "-c", script]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_course_puts_a_ride_event_and_reads_its_prediction(aws: LocalAws, stack: DeployedStack, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(tmp_path), **aws.environment}
    publish_bundle(aws.client("s3"), small_bundle(), bucket=stack.bucket)

    put = bash(PUT, environment)
    with running_in_process(stack.function, tmp_path / "function.log") as function:
        assert settle([EventSourceMapping(stack.mapping, aws.client("kinesis"), function)], stall_s=60)
    quoted, plain = (bash(GET % form, environment) for form in ("", "--output text"))

    assert quoted["Records"] == plain["Records"]
    (record,) = plain["Records"]
    prediction = json.loads(base64.b64decode(record["Data"]))
    assert prediction["prediction"]["ride_id"] == 156
    assert prediction["prediction_id"] == f"{put['ShardId']}:{put['SequenceNumber']}"
