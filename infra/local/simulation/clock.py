"""The clock of a simulation. Time passes only by `sleep`."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class SimulatedClock:
    """Monotonic time and wall-clock time."""

    now_s: float = 0.0  # monotonic seconds
    wall_ahead_s: float = 1_609_834_500.0  # Unix time less monotonic seconds; it begins on 2021-01-05
    deadline_s: float = math.inf  # monotonic seconds at which a sleeping function is killed

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return self.now_s

    def wall(self) -> float:
        """Return Unix time in seconds."""
        return self.now_s + self.wall_ahead_s

    def sleep(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            TimeoutError: The deadline is earlier; the clock is then at the deadline.

        >>> clock = SimulatedClock()
        >>> clock.sleep(1.5)
        >>> clock.monotonic()
        1.5
        """
        if self.now_s + seconds > self.deadline_s:
            self.now_s = self.deadline_s
            raise TimeoutError(f"killed at {self.deadline_s} s, asleep")
        self.now_s += seconds
