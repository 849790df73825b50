"""Where the stack of `ridecast up` runs."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra.local.up.state import RunningStack, find_running, remove_running, write_running


@pytest.fixture
def running() -> Iterator[RunningStack]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield RunningStack(
            pid=os.getpid(),
            endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            api_url="http://127.0.0.1:8080",
            stack="ridecast",
            bucket="bucket",
            input_stream="ride-events",
            output_stream="ride-predictions",
            outcomes_stream="ride-outcomes",
            started_at="2026-11-30T00:00:00+00:00",
        )


def test_running_stack_is_found_until_it_ends(tmp_path: Path, running: RunningStack) -> None:
    write_running(tmp_path, running)
    assert find_running(tmp_path) == running

    remove_running(tmp_path)
    assert find_running(tmp_path) is None


def test_stack_whose_process_is_gone_does_not_run(tmp_path: Path, running: RunningStack) -> None:
    write_running(tmp_path, msgspec.structs.replace(running, pid=2**22 + 1))  # above the largest process id

    assert find_running(tmp_path) is None


def test_stack_whose_aws_does_not_listen_does_not_run(tmp_path: Path, running: RunningStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = f"http://127.0.0.1:{listener.getsockname()[1]}"
    write_running(tmp_path, msgspec.structs.replace(running, endpoint_url=free))

    assert find_running(tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"pid": 1}', b"\xff"])
def test_damaged_file_is_of_no_running_stack(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "running.json").write_bytes(damage)

    assert find_running(tmp_path) is None
