"""The states of a model's calibration in the bucket: `calibrations/<model version>/<as_of>.json`, each written once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lambda_function.core.calibration import calibration_key
from training.errors import BucketError, UserError
from training.monitoring.calibration.tick import CalibrationState, decode_state, encode_state
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket

_MOST_AHEAD_HOURS = 24
"""States by hand get an hour behind all others, so several of one day may be ahead of the time."""


def _any(_: Hour) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class CalibrationStates:
    """The stored states of one model.

    Attributes:
        now: A state that is more than a day ahead is none: nobody has learned from rides of the future, and ticks would
            go on from there only when it comes.
        damaged: The keys of objects that are no state of this version of the code, as far as they were read.
    """

    bucket: Bucket
    model_version: str
    now: Hour
    damaged: list[str] = field(default_factory=list)

    def key(self, as_of: str) -> str:
        """Return the key of a state."""
        return calibration_key(self.model_version, as_of)

    def newest(self, since: Hour, is_wanted: Callable[[Hour], bool] = _any) -> CalibrationState | None:
        """Return the newest state from an hour on; None if there is none. One that does not decode is passed over.

        Args:
            since: The hour.
            is_wanted: Chooses states by their hour.

        Raises:
            BucketError: S3 fails.
        """
        for key in reversed(self._keys(since)):
            if not self._is_wanted(key, is_wanted):
                continue
            stored = self.bucket.read(key)
            try:
                if stored:
                    return self._decoded(key, stored.body)
            except ValueError:
                self.damaged.append(key)
        return None

    def _is_wanted(self, key: str, is_wanted: Callable[[Hour], bool]) -> bool:
        """Return whether a key is to be read; one that is no state's is, and is passed over by name."""
        try:
            return is_wanted(_hour_of(key))
        except UserError:
            return True

    def last_hour(self, since: Hour) -> Hour | None:
        """Return the hour of the last object from an hour on, be it a state or damaged; None if there is none.

        Raises:
            BucketError: S3 fails.
        """
        keys = self._keys(since)
        return _hour_of(keys[-1]) if keys else None

    def _keys(self, since: Hour) -> list[str]:
        folder, last = self.key("").removesuffix(".json"), self.key(str(self.now + _MOST_AHEAD_HOURS))
        keys = [one.key for one in self.bucket.list_objects(folder, start_after=self.key(str(since + -1)))]
        self.damaged.extend(key for key in keys if key > last)
        return [key for key in keys if key <= last]

    def read(self, as_of: str) -> bytes:
        """Return the object of a state.

        Raises:
            BucketError: There is none, or S3 fails.
        """
        stored = self.bucket.read(self.key(as_of))
        if stored is None:
            raise BucketError(self.bucket.name, self.key(as_of), "is missing: calibrate again from labelled rides")
        return stored.body

    def store(self, state: CalibrationState) -> CalibrationState:
        """Store a state unless there is one of its hour, and return the one that is stored then.

        Raises:
            BucketError: S3 fails, or an object that is no state has its place.
        """
        key, data = self.key(state.as_of), encode_state(state)
        stored = self.bucket.write_once(key, data)
        if stored == data:
            return state
        try:
            return self._decoded(key, stored)
        except ValueError as error:
            raise BucketError(self.bucket.name, key, f"{error}: remove it, and the next run stores it again") from error

    def _decoded(self, key: str, data: bytes) -> CalibrationState:
        state = decode_state(data)
        if self.model_version != state.model_version or self.key(state.as_of) != key:
            raise ValueError(f"is the state of {state.model_version} at {state.as_of}")
        return state


def _hour_of(key: str) -> Hour:
    return Hour.parse(key.rpartition("/")[2].removesuffix(".json"))
