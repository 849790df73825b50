"""A channel's move and its history, on a terminal and in JSON."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from infra.console import show_result
from infra.table import escaped, time_text, write_table
from training.publish import Moved
from training.registry.history import Line


def show_move(moved: Moved, address: str, *, json_only: bool) -> None:
    """Shows where a channel is after a command, and whether the command moved it."""
    now = moved.now
    rows = {
        "channel": moved.channel,
        "now": now.model_version + ("" if moved.has_moved else "   (it was there already: nothing has moved)"),
        "before": now.previous or "nothing",
        "moved by": f"{now.moved_by or 'somebody'}, {_time(now.moved_at)}",
    }
    result = {
        "channel": moved.channel,
        "model_version": now.model_version,
        "previous": now.previous,
        "moved": moved.has_moved,
        "moved_at": now.moved_at,
        "moved_by": now.moved_by,
        "why": now.why,
    }
    show_result(address, escaped(rows), result, json_only=json_only)


def show_history(lines: Sequence[Line], address: str, *, json_only: bool) -> None:
    """Shows a line a move, the oldest first."""
    if not json_only:
        rows = (
            (
                _time(line.moved_at),
                line.channel,
                line.model_version,
                line.why or "unknown",
                line.moved_by or "unknown",
            )
            for line in lines
        )
        write_table(f"Moves in {address}", ("moved", "channel", "to", "why", "by"), rows)
    show_result("", {}, {"bucket": address, "moves": [msgspec.to_builtins(line) for line in lines]}, json_only=True)


def _time(moved_at: str) -> str:
    return time_text(datetime.fromisoformat(moved_at))
