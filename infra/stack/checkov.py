"""Run checkov, in an environment of its own, on template.yaml as plain CloudFormation and on the bootstrap template.

checkov pins an old boto3, so it can't share this project's environment. .checkov.yaml lists suppressed checks with
their reasons; a suppression that is no longer needed is a finding too.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from infra.stack.template import BOOTSTRAP, ROOT, TEMPLATE, read_template
from infra.stack.tools import run, run_uv
from infra.stack.translate import transform
from training.errors import UserError

CONFIG = ROOT / ".checkov.yaml"
REQUIREMENTS = Path(__file__).parent / "checkov-requirements.txt"
HOME = ROOT / ".tools" / "checkov"


class Failure(NamedTuple):
    """A failed check, as in ``CKV_AWS_18``, and a sentence about it."""

    check: str
    sentence: str


def read_failures(template: str, report: Any) -> list[Failure]:
    """Read checkov's JSON report on one template; it is a list if checkov found nothing to check."""
    results = report.get("results", {}) if isinstance(report, dict) else {}
    return [
        Failure(one["check_id"], f"{template}: {one['resource']}: {one['check_id']} {one['check_name']}")
        for one in results.get("failed_checks", ())
    ]


def findings(failures: Sequence[Failure], suppressed: Sequence[str]) -> list[str]:
    """Return a sentence for each failure that is not suppressed, and for each suppression that suppresses nothing.

    >>> findings([Failure("CKV_1", "t: A: CKV_1 is open")], ["CKV_2"])
    ['t: A: CKV_1 is open', '.checkov.yaml: CKV_2 suppresses nothing: remove it']
    """
    needless = [check for check in suppressed if check not in {one.check for one in failures}]
    return [
        *(one.sentence for one in failures if one.check not in suppressed),
        *(f".checkov.yaml: {check} suppresses nothing: remove it" for check in needless),
    ]


def suppressions() -> list[str]:
    """Return the checks that .checkov.yaml suppresses."""
    listed: list[str] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["skip-check"]
    return listed


def install() -> Path:
    """Return checkov's command; install it first unless it is installed as checkov-requirements.txt pins it.

    Raises:
        UserError: There is no uv, or it could not install.
    """
    python, marker = HOME / "bin" / "python", HOME / "requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        elsewhere = ("--directory", HOME.anchor)  # pyproject.toml overrides the version of boto3
        run_uv("venv", "--quiet", "--clear", "--python", sys.executable, str(HOME))
        run_uv("pip", "install", "--quiet", *elsewhere, "--python", str(python), "--requirements", str(REQUIREMENTS))
        marker.write_text(wanted, encoding="utf-8")
    return HOME / "bin" / "checkov"


def check(checkov: Path, templates: Mapping[str, Any]) -> list[Failure]:
    """Run checkov on plain CloudFormation templates, offline and without any suppression.

    Raises:
        UserError: checkov did not run.
    """
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory() as folder:  # elsewhere, because checkov would read .checkov.yaml here
        for name, template in templates.items():
            path = Path(folder) / f"{name}.json"
            path.write_text(json.dumps(template, indent=1), encoding="utf-8")
            options = ["--framework", "cloudformation", "--skip-download", "--output", "json", "--soft-fail", "--quiet"]
            report = run([str(checkov), *options, "--file", str(path)], "checkov failed", cwd=Path(folder))
            failures += read_failures(name, json.loads(report))
    return failures


def main() -> int:
    """Print every finding and return the exit code."""
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
