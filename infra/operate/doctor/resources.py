"""The other resources that the stack's outputs name: the bucket, the queue and the HTTP API's function."""

from typing import Any

from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading


def read(reading: Reading) -> dict[str, Any]:
    """Look whether each of them exists."""
    outputs = reading.stack.outputs
    bucket, queue, api_function = (
        outputs.get(name, "") for name in ("BucketName", "GivenUpBatchesUrl", "ApiFunctionName")
    )
    s3, sqs, aws_lambda = map(reading.client, ("s3", "sqs", "lambda"))
    no_bucket = found("bucket-missing", f"{bucket} does not exist", bucket=bucket)
    reading.part("bucket", {}, lambda: s3.get_bucket_versioning(Bucket=bucket), no_bucket)
    no_queue = found("queue-missing", "the queue of failed batches does not exist", stack=reading.stack.name)
    reading.part("queue", {}, lambda: sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"]), no_queue)
    no_function = found("api-function-missing", f"{api_function} does not exist")
    reading.part("api", {}, lambda: aws_lambda.get_function_configuration(FunctionName=api_function), no_function)
    return {}
