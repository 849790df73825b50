"""Lint template.yaml by `sam validate --lint`, and its translation to plain CloudFormation by cfn-lint.

`sam validate` no longer checks what SAM's resources become, so cfn-lint finds most mistakes. Neither needs credentials.
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
_CHECKS = ManualArgs(include_checks=["I3"])  # I3: resources that hold data have a deletion policy


def findings(path: Path) -> list[str]:
    """Translate a template and run cfn-lint on the result; return one sentence a finding.

    Raises:
        UserError: The template can't be translated.
    """
    matches = lint(json.dumps(transform(path)), regions=[REGION], config=_CHECKS)
    return [f"{one.rule.id} at {'.'.join(map(str, one.path or ['template']))}: {one.message}" for one in matches]


def bootstrap_findings(path: Path) -> list[str]:
    """Run cfn-lint on the bootstrap template; return one sentence a finding."""
    matches = lint_file(path, config=ManualArgs(include_checks=["I3"], regions=[REGION]))
    return [f"{match.rule.id} at line {match.linenumber}: {match.message}" for match in matches]


def main(path: Path = TEMPLATE) -> int:
    """Print every finding and return the exit code."""
    # sam takes longer than all other steps: it runs in parallel.
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


if __name__ == "__main__":
    sys.exit(main())
