"""A port that is taken is refused with the process that holds it."""

import os
from pathlib import Path

import pytest

from infra.local.ports import listen, port_holder
from training.errors import UserError


def test_a_port_that_is_taken_is_refused_with_its_holder_and_the_option() -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}: Address already in use.*--api-port"):
            listen(port, "--api-port")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_the_holder_is_the_process_that_listens() -> None:
    with listen(0) as taken:
        assert port_holder(taken.getsockname()[1]).endswith(f"(process {os.getpid()})")


def test_a_system_without_proc_names_nobody(tmp_path: Path) -> None:
    assert port_holder(4566, tmp_path) == ""
