"""Runs checkov, in an environment of its own, over template.yaml as plain CloudFormation and the bootstrap template.

checkov pins an old boto3, so it can't live beside this project's. What is suppressed stands in .checkov.yaml, with its
reason; here a suppression that nothing needs any more is a finding too.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from infra.errors import BuildError
from infra.stack.package import ROOT, find_uv
from infra.stack.template import TEMPLATE, read_template, transform
from training.errors import UserError

CONFIG = ROOT / ".checkov.yaml"
BOOTSTRAP = Path(__file__).parent / "bootstrap.yaml"
REQUIREMENTS = Path(__file__).parent / "checkov-requirements.txt"
HOME = ROOT / ".tools" / "checkov"


class Failure(NamedTuple):
    """A check that a resource fails.

    Attributes:
        check: As in ``CKV_AWS_18``.
        resource: Type and logical name.
    """

    template: str
    check: str
    resource: str
    says: str

    def __str__(self) -> str:
        """Says which resource fails what."""
        return f"{self.template}: {self.resource}: {self.check} {self.says}"


def read_failures(template: str, report: Any) -> list[Failure]:
    """Reads checkov's JSON report on one template."""
    results = report.get("results", {}) if isinstance(report, dict) else {}
    return [
        Failure(template, found["check_id"], found["resource"], found["check_name"])
        for found in results.get("failed_checks", ())
    ]


def findings(failures: Iterable[Failure], suppressed: Iterable[str]) -> list[str]:
    """Returns a sentence for each failure that is not suppressed, and each suppression that suppresses nothing.

    >>> findings([Failure("t", "CKV_1", "A", "is open")], ["CKV_2"])
    ['t: A: CKV_1 is open', '.checkov.yaml: CKV_2 suppresses nothing any more: remove it']
    """
    failures, suppressed = list(failures), list(suppressed)
    needed = {failure.check for failure in failures}
    return [
        *(str(failure) for failure in failures if failure.check not in suppressed),
        *(
            f".checkov.yaml: {check} suppresses nothing any more: remove it"
            for check in suppressed
            if check not in needed
        ),
    ]


def suppressions(config: Path = CONFIG) -> list[str]:
    """Returns the checks that .checkov.yaml suppresses."""
    listed: list[str] = yaml.safe_load(config.read_text(encoding="utf-8"))["skip-check"]
    return listed


def install(home: Path = HOME) -> Path:
    """Returns checkov's command, installed as checkov-requirements.txt pins it where it is not yet.

    Raises:
        BuildError: There is no uv here, or it could not install.
    """
    python, marker = home / "bin" / "python", home / "requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        uv = find_uv()
        if uv is None:
            raise BuildError("no uv on PATH or in .tools/bin: run `make setup`")
        _run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)])
        _run([str(uv), "pip", "install", "--quiet", "--python", str(python), "--requirements", str(REQUIREMENTS)])
        marker.write_text(wanted, encoding="utf-8")
    return home / "bin" / "checkov"


def check(checkov: Path, templates: Mapping[str, Any]) -> list[Failure]:
    """Runs checkov over plain CloudFormation templates, offline and without any suppression.

    Raises:
        BuildError: checkov did not run.
    """
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory() as folder:  # not here: checkov would read .checkov.yaml by itself
        for name, template in templates.items():
            path = Path(folder) / f"{name}.json"
            path.write_text(json.dumps(template, indent=1), encoding="utf-8")
            options = ["--framework", "cloudformation", "--skip-download", "--output", "json", "--soft-fail", "--quiet"]
            report = _run([str(checkov), *options, "--file", str(path)], folder)
            failures += read_failures(name, json.loads(report))
    return failures


def _run(command: list[str], folder: str | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        raise BuildError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def main() -> int:
    """Prints every finding and returns the exit code."""
    templates = {"template": transform(TEMPLATE), "bootstrap": read_template(BOOTSTRAP)}
    try:
        problems = findings(check(install(), templates), suppressions())
    except UserError as error:
        problems = [str(error)]
    checked = f"checkov on {', '.join(templates)}: {len(problems) or 'no'} findings"
    sys.stdout.writelines(f"{line}\n" for line in [*problems, checked])
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
