"""The course's Lambda function with a model of this project: its environment, its events and its answer.

It serves version RUN_ID of MODEL_BUCKET until it is deployed again. docs/from-the-zoomcamp.md says what it lacks.
"""

import json
import os
import time

import boto3

from lambda_function.aws.publisher import Publisher
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key, load_bundle, sha256
from lambda_function.core.processor import process
from lambda_function.core.records import decode_records

RUN_ID, BUCKET = os.environ["RUN_ID"], os.environ["MODEL_BUCKET"]
STREAM = os.getenv("PREDICTIONS_STREAM_NAME", "ride_predictions")
IS_TEST_RUN = os.getenv("TEST_RUN", "False") == "True"

KINESIS = None if IS_TEST_RUN else boto3.client("kinesis", endpoint_url=os.getenv("KINESIS_ENDPOINT_URL"))
S3, NAMES = boto3.client("s3"), (MANIFEST, FOREST, GOLDEN)
FILES = {name: S3.get_object(Bucket=BUCKET, Key=bundle_key(RUN_ID, name))["Body"].read() for name in NAMES}
MODEL = load_bundle(RUN_ID, sha256(FILES[MANIFEST]), FILES)


def lambda_handler(event, context):  # noqa: ARG001 - Lambda's signature
    """Predict each record, publish the predictions unless this is a test run, and return them."""
    usual = {"partitionKey": "1", "sequenceNumber": "0", "approximateArrivalTimestamp": time.time()}
    records = [{"eventID": "test:0", **one, "kinesis": {**usual, **one["kinesis"]}} for one in event["Records"]]
    batch = process(decode_records({"Records": records}), MODEL)
    if batch.rejects:  # as in the course, a bad record fails its batch, and Lambda brings it again
        raise ValueError(batch.rejects[0][1].detail)
    if KINESIS and (unpublished := Publisher(KINESIS, STREAM).publish(batch.entries, lambda: 10.0).unpublished):
        raise RuntimeError(f"{len(unpublished)} predictions are not on {STREAM}")
    predictions = [json.loads(data) for _, data in batch.entries]
    return {"predictions": [{name: one[name] for name in ("model", "version", "prediction")} for one in predictions]}
