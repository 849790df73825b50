"""The process that the bench of the archive measures: only the function.

    python -m tests.bench.archive_probe FILE

FILE contains an invocation of full size. It is parsed before each invocation and released after it, as in Lambda.
"""

import json
import os
import sys
from pathlib import Path

from lambda_function.aws.clients import make_s3_client
from tests.bench.archive_stand_ins import archiver_around
from tests.bench.timing import peak_bytes

N_LARGE_BATCHES = 5  # the first batch does not reach the peak of the others


def main(path: Path) -> None:
    """Print the process's peak memory in bytes."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    make_s3_client()  # as the cold start does
    archiver = archiver_around([])
    for _ in range(N_LARGE_BATCHES):
        archiver(json.loads(path.read_bytes()))
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
