"""The labelled rides of a join in DuckDB, which sorts them and writes the Parquet file.

The result depends on the rows alone, and on the version of DuckDB: not on their order, nor on the number of threads.

A database is opened, and its table is made, once a process: that takes longer than the join of a small hour. A join is
one transaction, and is rolled back at its end, so that the table is empty again.
"""

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import duckdb
import numpy as np

from training.data.labelled import COLUMNS, FILE
from training.monitoring.accuracy import PredictedRides
from training.monitoring.join.matched_rides import LabelledRides

SAME_SCHEMA = "set disabled_optimizers = 'statistics_propagation'"
"""Before a COPY: otherwise a column is declared `not null` in the hours in which it has no null."""

ROWS_PER_GROUP = 122_880
"""DuckDB's own default, and a multiple of its vectors; fixed, because the file's bytes depend on it."""

KEPT_RIDES = 100_000
"""After a join of more rides the database is closed, so that its memory is free again."""

_VERSION = "model_version"
_TYPES = {column.name: "integer" if column.name == _VERSION else column.duckdb for column in COLUMNS}
_TABLE = f"create table labelled ({', '.join(f'{name} {kind}' for name, kind in _TYPES.items())})"
_NAMED = f"(?::varchar[])[{_VERSION} + 1] as {_VERSION}"  # -1, which is no version, becomes null
_COLUMNS = ", ".join(_NAMED if name == _VERSION else name for name in _TYPES)

_PREDICTED = """
select model_version, predicted_minutes, low_minutes, high_minutes, duration_minutes from labelled
where predicted_minutes is not null
"""


class _Database(NamedTuple):
    """A database with an empty table, and a folder for its file and for what does not fit in memory."""

    connection: duckdb.DuckDBPyConnection
    folder: Path

    @classmethod
    def open(cls, n_threads: int, memory_mb: int) -> Self:
        """Open a database."""
        folder = Path(tempfile.mkdtemp(prefix="join-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        connection = duckdb.connect(config={"threads": n_threads, "temp_directory": str(folder / "spilled")})
        connection.execute(f"set memory_limit = '{memory_mb}MB'; set preserve_insertion_order = false; {SAME_SCHEMA}")
        return cls(connection.execute(_TABLE), folder)

    @property
    def has_spilled(self) -> bool:
        """Whether something did not fit in memory."""
        return (self.folder / "spilled").exists()

    def close(self) -> None:
        """Close it, and remove its folder."""
        self.connection.close()
        shutil.rmtree(self.folder)


_idle: dict[tuple[int, int], list[_Database]] = {}
"""Databases that wait for a join, by threads and memory."""


class RideTable:
    """The labelled rides of one join; use as a context manager, which closes it."""

    def __init__(self, n_threads: int, memory_mb: int) -> None:
        """Take a database.

        Args:
            n_threads: DuckDB's threads.
            memory_mb: DuckDB's share of the memory.
        """
        self._idle = _idle.setdefault((n_threads, memory_mb), [])
        self._database = self._idle.pop() if self._idle else _Database.open(n_threads, memory_mb)
        self._connection = self._database.connection
        self._connection.execute("begin")
        self.n_by_status: Counter[str] = Counter()
        self.n_contradicting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.n_rides > KEPT_RIDES or self._database.has_spilled:
            self._database.close()
        else:
            self._connection.execute("rollback")
            self._idle.append(self._database)

    @property
    def n_rides(self) -> int:
        """The number of rides."""
        return self.n_by_status.total()

    def add(self, rides: LabelledRides) -> None:
        """Add the rides of a part."""
        added = {str(place): column for place, column in enumerate(rides)}  # noqa: F841 - DuckDB finds it by name
        self._connection.execute("insert into labelled select * from added")
        self.n_by_status.update(rides.status.tolist())
        self.n_contradicting += int(np.count_nonzero(rides.contradicting))

    def write(self, versions: Sequence[str]) -> bytes:
        """Return the labelled rides as Parquet; `versions` are the names of the versions' numbers."""
        path = self._database.folder / FILE
        rows = f"select {_COLUMNS} from labelled order by arrival_time, event_id"  # noqa: S608 - our own names
        form = f"format parquet, compression zstd, row_group_size {ROWS_PER_GROUP}"
        self._connection.execute(f"copy ({rows}) to '{path}' ({form})", [list(versions)])
        try:
            return path.read_bytes()
        finally:
            path.unlink()

    def n_rides_of(self, parquet: bytes) -> int:
        """Return the number of rides in a Parquet file; 0 if it is damaged."""
        path = self._database.folder / "before.parquet"
        path.write_bytes(parquet)
        try:
            with self._connection.cursor() as other:  # an error must not end the transaction
                return other.execute("select count(*) from read_parquet(?)", [str(path)]).fetchall()[0][0]  # type: ignore[no-any-return]
        except duckdb.Error:
            return 0
        finally:
            path.unlink()

    def predicted(self, versions: Sequence[str]) -> PredictedRides:
        """Return the rides that have a prediction."""
        columns = self._connection.execute(_PREDICTED).fetchnumpy()
        version, *minutes = columns.values()
        filled = [np.ma.filled(column.astype(np.float64), np.nan) for column in minutes]
        return PredictedRides(np.ma.getdata(version).astype(np.int64), tuple(versions), *filled)
