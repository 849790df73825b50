"""The package's bill of materials: a CycloneDX document of each distribution in it, with the digests that uv.lock has.

It is made from the same export of uv.lock as requirements.txt, cut down to the function's Python, so that it lists what
`sam build` installs; a test compares it with the built package. cyclonedx-py validates it against CycloneDX's schema.
"""

import re
import subprocess
import sys
from pathlib import Path

from packaging.markers import Marker

from infra.errors import BuildError
from infra.package import PYTHON, ROOT

SPEC_VERSION = "1.6"

_RUNTIME = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON[0]}.{PYTHON[1]}.0",
    "python_version": f"{PYTHON[0]}.{PYTHON[1]}",
    "sys_platform": "linux",
}
"""What a requirement's marker is read against: Lambda's, not this machine's."""

_MARKER = re.compile(r"^(?P<pin>[^;\\]+?) *; *(?P<marker>[^\\]+?)(?P<rest> *\\)?$")


def requirements_of_the_runtime(exported: str) -> str:
    r"""Returns the requirements that the function's own Python installs, without their markers.

    Args:
        exported: What `uv export` wrote, digests on lines of their own or none.

    >>> requirements_of_the_runtime("a==1 ; python_full_version < '3.12' \\\n    --hash=sha256:0\nb==2\n")
    'b==2\n'
    """
    requirements = re.split(r"\n(?=\S)", exported.strip())  # a requirement and its digests, each
    return "".join(f"{kept}\n" for one in requirements if (kept := _without_marker(one)))


def _without_marker(requirement: str) -> str:
    first, *digests = requirement.split("\n")
    found = _MARKER.match(first)
    if not found:
        return requirement
    if not Marker(found["marker"]).evaluate(_RUNTIME):
        return ""
    return "\n".join([found["pin"] + (found["rest"] or ""), *digests])


def write_sbom(exported: str, path: Path) -> None:
    """Writes the bill of materials; the same requirements give the same bytes.

    Args:
        exported: What `uv export` wrote, with digests.
        path: The JSON file, replaced where it exists.

    Raises:
        BuildError: The document is not valid, or a requirement can't be read.
    """
    options = ["--pyproject", "pyproject.toml", "--spec-version", SPEC_VERSION, "--output-reproducible", "--validate"]
    done = subprocess.run(  # noqa: S603 - cyclonedx-py, with words from this file
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cyclonedx_py",
            "requirements",
            *options,
            "--output-file",
            str(path),
            "-",
        ],
        cwd=ROOT,
        input=requirements_of_the_runtime(exported),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"cyclonedx-py says {done.stderr.strip()[-500:]}")
