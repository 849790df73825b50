"""How this project calls SAM's command line: its own copy, offline, deaf to the user's AWS settings."""

import os
import sys
from pathlib import Path

from infra.template.transform import REGION


def sam_command() -> list[str]:
    """Returns the words that begin every call."""
    return [sys.executable, "-m", "samcli"]


def sam_environment() -> dict[str, str]:
    """Returns the environment of every call.

    `sam build` looks for a Python of the function's version with pip on PATH: this environment's comes first.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    tools = Path(sys.executable).parent
    return {
        **inherited,
        "AWS_DEFAULT_REGION": REGION,
        "PATH": f"{tools}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "SAM_CLI_TELEMETRY": "0",
    }
