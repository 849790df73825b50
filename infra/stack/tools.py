"""Run the tools that build and check a stack: uv, sam and others."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.stack.template import REGION, ROOT
from training.errors import UserError

_SHOWN_CHARACTERS = 500  # of a tool's messages: the last ones have the reason


def sam_command() -> list[str]:
    """Return the beginning of every call of SAM's command line: this project's own copy."""
    return [sys.executable, "-m", "samcli"]


def tool_environment() -> dict[str, str]:
    """Return the environment of every tool: without the user's AWS settings, so that it stays offline.

    `sam build` searches PATH for a Python of the function's version with pip: this environment's comes first.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    tools = Path(sys.executable).parent
    return {
        **inherited,
        "AWS_DEFAULT_REGION": REGION,
        "PATH": f"{tools}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "SAM_CLI_TELEMETRY": "0",
    }


def find_uv() -> str | None:
    """Return uv from PATH, or the one that `make setup` installed; None if there is neither."""
    return shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools" / "bin")


def run_uv(*arguments: str) -> str:
    """Run uv and return its output.

    Raises:
        UserError: There is no uv, or it failed.
    """
    uv = find_uv()
    if uv is None:
        raise UserError("uv is neither on PATH nor in .tools/bin", "run `make setup`")
    return run([uv, *arguments], "uv failed")


def run(command: Sequence[str], problem: str, *, cwd: Path = ROOT, stdin: str | None = None) -> str:
    """Run a tool and return its output.

    Raises:
        UserError: It failed; the message is `problem` and the end of what the tool wrote.
    """
    done = subprocess.run(  # noqa: S603 - a tool of this project, with words from this package
        command, cwd=cwd, env=tool_environment(), input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UserError(f"{problem}: {(done.stderr or done.stdout).strip()[-_SHOWN_CHARACTERS:]}")
    return done.stdout
