"""A package's bill of materials: a CycloneDX document with each distribution in it and the digests from uv.lock.

It is made from the same export of uv.lock as requirements.txt, reduced to the function's Python, so that it lists what
`sam build` installs; a test compares it with the built package. cyclonedx-py validates it against CycloneDX's schema.
"""

import re
import sys
from pathlib import Path

from packaging.markers import Marker

from infra.stack.package import PYTHON
from infra.stack.tools import run

SPEC_VERSION = "1.6"

_RUNTIME = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON[0]}.{PYTHON[1]}.0",
    "python_version": f"{PYTHON[0]}.{PYTHON[1]}",
    "sys_platform": "linux",
}
"""Lambda's environment, for which markers of requirements are evaluated."""


def requirements_of_the_runtime(exported: str) -> str:
    r"""Return the requirements of `uv export`'s output that the function's own Python installs, without their markers.

    >>> requirements_of_the_runtime("a==1 ; python_full_version < '3.12' \\\n    --hash=sha256:0\nb==2\n")
    'b==2\n'
    """
    pinned = []
    for requirement in re.split(r"\n(?=\S)", exported.strip()):
        first, *digests = requirement.split("\n")
        pin, _, marker = first.removesuffix("\\").partition(";")
        if not marker or Marker(marker).evaluate(_RUNTIME):
            pinned += [pin.strip() + (" \\" if digests else ""), *digests]
    return "".join(f"{line}\n" for line in pinned)


def write_sbom(exported: str, path: Path) -> None:
    """Write the bill of materials of `uv export`'s output as JSON; the same output gives the same bytes.

    Raises:
        UserError: The document is not valid, or a requirement can't be read.
    """
    options = ["--pyproject", "pyproject.toml", "--spec-version", SPEC_VERSION, "--output-reproducible", "--validate"]
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", *options]
    problem = "cannot write the bill of materials: cyclonedx-py reports"
    run([*command, "--output-file", str(path), "-"], problem, stdin=requirements_of_the_runtime(exported))
