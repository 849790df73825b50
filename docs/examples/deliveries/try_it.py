"""Train on deliveries, release the model to a bucket in this folder, and predict a delivery with the real handler."""

import base64
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from training.data.deliveries import load_deliveries

from lambda_function.aws.settings import Settings
from lambda_function.handler import build_handler
from training.data.months import Month
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3
from training.workflows.pipeline import train

PARAMETERS = {"max_iter": 60, "max_leaf_nodes": 15, "min_samples_leaf": 20, "learning_rate": 0.15, "random_state": 1}
DELIVERY = {
    "ride": {"from_zone": 2, "to_zone": 19, "route_miles": 4.8, "parcels": 3, "collected_at": "2026-03-02T17:10:00"},
    "ride_id": "order-7",
}


class PrintedStream:
    """The output stream's client: it prints each prediction."""

    def put_records(self, *, StreamName: str, Records: list) -> dict:  # noqa: N803 - boto3's names
        """Print the records."""
        for record in Records:
            print(StreamName, record["Data"].decode())
        return {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "0", "ShardId": "0"} for _ in Records]}


def main() -> None:
    """Train, release, predict."""
    january, february = load_deliveries(Month(2026, 1), 4_000), load_deliveries(Month(2026, 2), 1_000)
    trained = train("deliveries", january, february, PARAMETERS, has_reference=False)
    errors = trained.evaluation.validate
    print(f"RMSE {errors.model.rmse_minutes:.2f} minutes, linear model {errors.baseline.rmse_minutes:.2f}")

    bucket = Bucket(FolderS3(Path("bucket")), "deliveries")
    store_bundle(bucket, trained.bundle)
    move_channel(bucket, "stable", trained.bundle.model_version, trained.bundle.manifest_sha256)

    settings = Settings(bucket="deliveries", model_channel="stable", output_stream="delivery-predictions")
    handler = build_handler(settings, bucket.s3, PrintedStream())
    answer = handler(kinesis_event(DELIVERY), SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
    print(answer)
    sys.exit(bool(answer["batchItemFailures"]))


def kinesis_event(delivery: dict) -> dict:
    """Return what Lambda passes for one record of the input stream."""
    kinesis = {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": "order-7",
        "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
        "data": base64.b64encode(json.dumps(delivery).encode()).decode(),
        "approximateArrivalTimestamp": time.time(),
    }
    record = {
        "eventSource": "aws:kinesis",
        "eventID": f"shardId-000000000000:{kinesis['sequenceNumber']}",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/deliveries",
        "kinesis": kinesis,
    }
    return {"Records": [record]}


if __name__ == "__main__":
    main()
