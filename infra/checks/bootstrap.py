"""Runs cfn-lint over the bootstrap template: properties, and that every action and ARN of its policies exists."""

import sys
from pathlib import Path

from cfnlint.api import lint_file  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]

from infra.template.transform import REGION

BOOTSTRAP = Path(__file__).parent.parent / "cicd" / "bootstrap.yaml"


def findings(path: Path) -> list[str]:
    """Returns a sentence a finding."""
    matches = lint_file(path, config=ManualArgs(include_checks=["I3"], regions=[REGION]))
    return [f"{match.rule.id} at line {match.linenumber}: {match.message}" for match in matches]


def main(path: Path = BOOTSTRAP) -> int:
    """Prints every finding and returns the exit code."""
    problems = findings(path)
    checked = f"{path.name}: cfn-lint: {len(problems) or 'no'} findings"
    sys.stdout.writelines(f"{line}\n" for line in [*problems, checked])
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
