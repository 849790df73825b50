"""Lints template.yaml: `sam validate --lint` on it as it stands, and cfn-lint on what the SAM translator makes of it.

The first no longer looks behind SAM's resources, so the second finds most mistakes. Neither needs credentials.
"""

import json
import subprocess
import sys
from pathlib import Path

from cfnlint.api import lint, lint_file  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]

from infra.stack.package import sam_command, sam_environment
from infra.stack.template import REGION, TEMPLATE, transform
from training.errors import UserError

BOOTSTRAP = Path(__file__).parent / "bootstrap.yaml"
_CHECKS = ManualArgs(include_checks=["I3"])  # I3: resources that hold data say what becomes of it


def findings(path: Path) -> list[str]:
    """Translates a template and runs cfn-lint on the result: one sentence a finding.

    Raises:
        TemplateError: The template can't be translated.
    """
    matches = lint(json.dumps(transform(path)), regions=[REGION], config=_CHECKS)
    return [f"{match.rule.id} at {_place(match.path)}: {match.message}" for match in matches]


def _place(path: list[str | int] | None) -> str:
    return ".".join(map(str, path or ["template"]))


def main(path: Path = TEMPLATE) -> int:
    """Prints every finding and returns the exit code."""
    # sam takes longer than all else here: let it run beside.
    with subprocess.Popen(  # noqa: S603 - sam, with words from this file
        [*sam_command(), "validate", "--lint", "--template-file", str(path)],
        env=sam_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as sam:
        try:
            problems = findings(path)
        except UserError as error:
            problems = [str(error)]
        said, _ = sam.communicate()
    problems += bootstrap_findings(BOOTSTRAP)
    if sam.returncode != 0:
        problems.append(f"sam validate: {said.strip()}")
    checked = f"{path.name}: sam validate --lint, SAM translator and cfn-lint: {len(problems) or 'no'} findings"
    sys.stdout.writelines(f"{line}\n" for line in [*problems, checked])
    return 1 if problems else 0


def bootstrap_findings(path: Path) -> list[str]:
    """Run cfn-lint over the bootstrap template: one sentence a finding."""
    matches = lint_file(path, config=ManualArgs(include_checks=["I3"], regions=[REGION]))
    return [f"{match.rule.id} at line {match.linenumber}: {match.message}" for match in matches]


if __name__ == "__main__":
    sys.exit(main())
