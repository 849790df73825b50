"""AWS's runtime interface emulator: which tests need it, and a function of a few lines to run in it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from infra.local.runtime.emulator import FunctionConfig
from infra.local.runtime.rie import find_rie
from infra.stack.package import PYTHON, host_architecture

needs_emulator = pytest.mark.skipif(
    find_rie() is None or sys.version_info[:2] != PYTHON or host_architecture() is None,
    reason="the emulator comes with aws-sam-cli, for Linux on a processor of Lambda's; the function wants Python 3.13",
)


def stub(folder: Path, body: str, **settings: Any) -> FunctionConfig:
    """A package that is one module: `event` and `context` are there for its body to use."""
    package = folder / "stub"
    package.mkdir()
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (package / "stub.py").write_text(f"import os, time\ndef lambda_handler(event, context):\n{lines}\n")
    defaults: dict[str, Any] = {"environment": {"AWS_DEFAULT_REGION": "us-east-1"}, "timeout_s": 30}
    return FunctionConfig(package=package, handler="stub.lambda_handler", **{**defaults, **settings})
