"""What a model was trained in: commit, lock file, Python, packages. A paper beside the bundle, for it is no input."""

import platform
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from lambda_function.model import sha256

ENVIRONMENT = "environment.json"
"""The paper's name."""

_PROJECT = Path(__file__).parents[2]
_GIT_TIMEOUT_S = 10.0


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model comes from. The first three are None where they cannot be told: installed code has no commit.

    `git_dirty` says that the code was another than the commit's.
    """

    git_commit: str | None = None
    git_dirty: bool | None = None
    uv_lock_sha256: str | None = None
    python: str
    platform: str
    packages: dict[str, str]


def describe_environment(project: Path = _PROJECT) -> Environment:
    """Describes what this process runs in. To be asked when a model is trained: later it may be something else."""
    lock = project / "uv.lock"
    commit = _commit(project)
    return Environment(
        git_commit=commit,
        git_dirty=None if commit is None else _git(project, "status", "--porcelain") != "",
        uv_lock_sha256=sha256(lock.read_bytes()) if lock.is_file() else None,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=dict(sorted((one.name, one.version) for one in distributions())),
    )


def encode_environment(environment: Environment) -> bytes:
    """Returns the paper's bytes."""
    return msgspec.json.format(msgspec.json.encode(environment), indent=1) + b"\n"


decode_environment = msgspec.json.Decoder(Environment).decode


def _commit(project: Path) -> str | None:
    """Returns the commit of a checkout; not that of a repository which merely has this project's package inside."""
    top = _git(project, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != project.resolve():
        return None
    return _git(project, "rev-parse", "--verify", "HEAD")


def _git(project: Path, *words: str) -> str | None:
    """Asks git; None where there is none, or it does not know."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(project), *words]
    try:
        done = subprocess.run(  # noqa: S603 - git, with words from this file
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
