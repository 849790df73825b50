"""The soak's judge: a consumer that upserts by prediction id, and the redrive of all failed batches at the end."""

from contextlib import suppress
from pathlib import Path
from typing import Self

from infra.local.s3 import FolderS3
from infra.local.simulation.simulation import Simulation
from infra.operate.consumer import Counts, SqliteTable, consume
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.redrive import Redrive
from infra.operate.redrive.selection import FAILURES
from infra.operate.replayer import Replayer
from infra.operate.streams import Timing
from tests.builders_failed import FUNCTION_ARN
from tests.fakes_lambda import FakeLambda
from training.errors import UserError
from training.registry.bucket import Bucket

_N_ATTEMPTS = 20  # faults go on, and may end some


class Judge:
    """Holds what a consumer holds, on disk, so that the memory does not grow. Use it in a `with` block.

    Args:
        folder: An empty folder.

    Attributes:
        counts: What became of the predictions that the consumer got.
    """

    def __init__(self, folder: Path) -> None:
        self.counts = Counts()
        self._table = SqliteTable(str(folder / "predictions.sqlite"))
        self._failed = Bucket(FolderS3(folder / "failed"), "failed", n_threads=1)
        self._n_failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()

    @property
    def n_rows(self) -> int:
        """Predictions that the consumer holds."""
        return len(self._table)

    def take_output(self, simulation: Simulation) -> list[bytes]:
        """Consume what is on the output stream, remove it, and return the records' data."""
        records = [(record["SequenceNumber"], record["Data"]) for record in simulation.output.take_records()]
        self.counts.add(consume(records, self._table))
        return [data for _, data in records]

    def add_failed(self, body: bytes) -> None:
        """Keep an object of the failure destination for the redrive."""
        self._failed.write(f"{FAILURES.prefix}soak/shard/{self._n_failed:06}", body)
        self._n_failed += 1

    def redrive(self, simulation: Simulation) -> int:
        """Redrive all failed batches, again after each fault; return the number of records that were redriven."""
        timing = Timing(simulation.clock.monotonic, simulation.clock.sleep)
        replayer = Replayer(FakeLambda(simulation.function), FUNCTION_ARN, timing)
        n_redriven = 0
        for _ in range(_N_ATTEMPTS):
            marks = Marks(self._failed)
            marks.load(marks.keys())
            run = Redrive(marks, lambda _: replayer, timing=timing)
            with suppress(UserError):
                run.run(FAILURES.read(self._failed, FAILURES.keys(self._failed)))
            n_redriven += run.report.n_redriven
            if run.report.n_selected == run.report.n_redriven + run.report.n_redriven_before:
                break
        return n_redriven
