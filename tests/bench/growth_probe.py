"""The process that the growth bench measures: only the function.

    python -m tests.bench.growth_probe FOLDER

FOLDER contains records.ndjson, the records of an invocation of full size, and objects/, the bucket, a file an object. A
batch is parsed before each invocation and released after it, as in Lambda.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.stand_ins import fast_kinesis, function_around
from tests.bench.timing import peak_bytes

BATCH_SIZES = (1, 500, 1000, 2000, 4000, 6000, 8000, 9400)
N_BATCHES, N_RIDES_A_BATCH = 400, 1000
REPEATS = 15


def main(folder: Path) -> None:
    """Print CPU and peak memory by batch size, and memory batch after batch, as one JSON object."""
    lines = (folder / "records.ndjson").read_bytes().splitlines()
    objects = {
        path.relative_to(folder / "objects").as_posix(): path.read_bytes()
        for path in (folder / "objects").rglob("*")
        if path.is_file()
    }
    function = function_around(objects, fast_kinesis())
    function(_event(lines[:1]))
    peak_mb_by_batch_size = {}
    for size in BATCH_SIZES:
        function(_event(lines[:size]))
        peak_mb_by_batch_size[size] = peak_bytes() / 1e6
    ms_by_batch_size = dict.fromkeys(BATCH_SIZES, math.inf)
    for _ in range(REPEATS):  # in rounds, so that a busy period of the machine does not affect one size only
        for size in BATCH_SIZES:
            ms_by_batch_size[size] = min(ms_by_batch_size[size], _cpu_ms(function, _event(lines[:size])))
    mb_by_batch = []
    for _ in range(N_BATCHES):
        function(_event(lines[:N_RIDES_A_BATCH]))
        mb_by_batch.append(_resident_mb())
    found = {"ms_by_batch_size": ms_by_batch_size, "peak_mb_by_batch_size": peak_mb_by_batch_size}
    sys.stdout.write(json.dumps({**found, "mb_by_batch": mb_by_batch}) + "\n")


def _event(lines: list[bytes]) -> dict[str, Any]:
    return {"Records": [json.loads(line) for line in lines]}


def _cpu_ms(function: Any, event: dict[str, Any]) -> float:
    started_s = time.process_time()
    function(event)
    return (time.process_time() - started_s) * 1000


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main(Path(sys.argv[1]))
