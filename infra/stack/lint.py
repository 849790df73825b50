"""Lint the templates: template.yaml by `sam validate --lint`, and it and bootstrap.yaml by cfn-lint.

cfn-lint reads their translation to plain CloudFormation. `sam validate` no longer checks what SAM's resources become,
so cfn-lint finds most mistakes. Neither needs credentials.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from cfnlint.api import lint  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]

from infra.stack.template import BOOTSTRAP, REGION, TEMPLATE
from infra.stack.tools import sam_command, tool_environment
from infra.stack.translate import transform
from training.errors import UserError

_CHECKS = ManualArgs(include_checks=["I3"])  # I3: resources that hold data have a deletion policy

_COPIES = re.compile("W3011 at Resources.Looper(Aliaslive|Schedule):")
"""SAM copies a function's UpdateReplacePolicy, which is for its version, also to what holds no data."""


def findings(path: Path) -> list[str]:
    """Translate a template and run cfn-lint on the result; return one sentence a finding.

    Raises:
        UserError: The template can't be translated.
    """
    matches = lint(json.dumps(transform(path)), regions=[REGION], config=_CHECKS)
    found = [f"{one.rule.id} at {'.'.join(map(str, one.path or ['template']))}: {one.message}" for one in matches]
    return [finding for finding in found if not _COPIES.match(finding)]


def main() -> int:
    """Print every finding and return the exit code."""
    # sam takes longer than all other steps: it runs in parallel.
    with subprocess.Popen(  # noqa: S603 - sam, with words from this file
        [*sam_command(), "validate", "--lint", "--template-file", str(TEMPLATE)],
        env=tool_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as sam:
        try:
            problems = [f"{one.name}: {finding}" for one in (TEMPLATE, BOOTSTRAP) for finding in findings(one)]
        except UserError as error:
            problems = [str(error)]
        output, _ = sam.communicate()
    if sam.returncode != 0:
        problems.append(f"sam validate: {output.strip()}")
    checked = f"{TEMPLATE.name}: sam validate --lint, SAM translator and cfn-lint: {len(problems) or 'no'} findings"
    sys.stdout.writelines(f"{line}\n" for line in [*problems, checked])
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
