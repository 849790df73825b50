"""The environment of training: commit, lock file, Python and packages. It is an artifact beside the bundle."""

import platform
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from lambda_function.core.bundle import sha256

ENVIRONMENT = "environment.json"
"""The artifact's name."""

_PROJECT = Path(__file__).parents[2]
_GIT_TIMEOUT_S = 10.0


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of a model. The first three are None if unknown: installed code has no commit.

    `git_dirty` means that the checkout had changes that the commit does not contain.
    """

    git_commit: str | None = None
    git_dirty: bool | None = None
    uv_lock_sha256: str | None = None
    python: str
    platform: str
    packages: dict[str, str]


decode_environment = msgspec.json.Decoder(Environment).decode


def encode_environment(environment: Environment) -> bytes:
    """Return the artifact's bytes."""
    return msgspec.json.format(msgspec.json.encode(environment), indent=1) + b"\n"


def describe_environment(project: Path = _PROJECT) -> Environment:
    """Describe the environment of this process. Call it when a model is trained, because it may change later."""
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


def _commit(project: Path) -> str | None:
    """Return the commit of a checkout; None if the project is only a package inside another repository."""
    top = _git(project, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != project.resolve():
        return None
    return _git(project, "rev-parse", "--verify", "HEAD")


def _git(project: Path, *words: str) -> str | None:
    """Return git's output; None if git is missing or fails."""
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
