"""What a join depends on besides the archive."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """The options of a join.

    Attributes:
        outcome_delay_minutes: How long after the longest ride an outcome may arrive and still count.
        channel: The channel of the predicting function: its history names the versions that a rollback withdrew.
        ride_stream: The stream whose rejects are looked for.
        outcome_stream: The stream under whose name bad outcomes are stored.
        max_recomputed: Predictions that are compared with their version's; of more rides, a sample.
        threads: DuckDB's threads. The result does not depend on it.
        bytes_per_part: Of stored ride events that are joined at once: about a million. The rides of a busier hour are
            joined in parts, by a hash of their id. The result does not depend on it.
        memory_mb: DuckDB's share of the memory; what does not fit is in temporary files.
    """

    outcome_delay_minutes: int = 120
    channel: str = "stable"
    ride_stream: str = "ride-events"
    outcome_stream: str = "ride-outcomes"
    max_recomputed: int = 1_000_000
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    memory_mb: int = 1_000
    bytes_per_part: int = 40_000_000
