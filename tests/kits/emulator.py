"""AWS's runtime interface emulator: a mark for tests that need it, and a small function to run in it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from infra.local.runtime.function import FunctionConfig
from infra.local.runtime.rie import find_rie
from infra.stack.package import PYTHON, host_architecture

needs_emulator = pytest.mark.skipif(
    find_rie() is None or sys.version_info[:2] != PYTHON or host_architecture() is None,
    reason="needs Python 3.13 and the emulator in aws-sam-cli, which is for Linux on a processor that Lambda has",
)


def stub(folder: Path, body: str, **settings: Any) -> FunctionConfig:
    """Return a package of one module, whose handler has this body; it may use `event` and `context`."""
    package = folder / "stub"
    package.mkdir()
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (package / "stub.py").write_text(f"import os, time\ndef lambda_handler(event, context):\n{lines}\n")
    defaults: dict[str, Any] = {"environment": {"AWS_DEFAULT_REGION": "us-east-1"}, "timeout_s": 30}
    return FunctionConfig(package=package, handler="stub.lambda_handler", **{**defaults, **settings})
