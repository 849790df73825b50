"""The soak's judge: a consumer that upserts by prediction id, and the redrive of all failed batches at the end."""

from contextlib import suppress
from pathlib import Path
from typing import Self

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
        self._seen: set[str] = set()

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

    def new_objects(self, simulation: Simulation, prefix: str) -> list[bytes]:
        """Return the objects below a prefix that were not there before."""
        keys = sorted(key for key in simulation.bucket.objects if key.startswith(prefix) and key not in self._seen)
        self._seen.update(keys)
        return [simulation.bucket.objects[key] for key in keys]

    def redrive(self, simulation: Simulation) -> int:
        """Redrive all failed batches, again after each fault; return the number of records that were redriven."""
        timing = Timing(simulation.clock.monotonic, simulation.clock.sleep)
        predictor, archiver = (
            Replayer(FakeLambda(function), FUNCTION_ARN, timing)
            for function in (simulation.function, simulation.archiver)
        )
        n_redriven, bucket = 0, simulation.models
        for _ in range(_N_ATTEMPTS):
            marks = Marks(bucket)
            marks.load(marks.keys())
            run = Redrive(marks, lambda record: archiver if record.is_archivers else predictor, timing=timing)
            with suppress(UserError):
                run.run(FAILURES.read(bucket, FAILURES.keys(bucket)))
            n_redriven += run.report.n_redriven
            if run.report.n_selected == run.report.n_redriven + run.report.n_redriven_before:
                break
        return n_redriven
