"""The checks' own rules: what suppresses a finding of checkov, and what does not."""

import re
from typing import Any

import pytest

from infra.stack.checkov import CONFIG, REQUIREMENTS, Failure, findings, read_failures, suppressions
from infra.stack.release import requirements_of_the_runtime


def failure(check: str) -> Failure:
    return Failure("template", check, "AWS::S3::Bucket.Bucket", "is open")


def test_failed_check_is_a_finding_unless_it_is_suppressed() -> None:
    assert findings([failure("CKV_1"), failure("CKV_2")], ["CKV_2"]) == [
        "template: AWS::S3::Bucket.Bucket: CKV_1 is open"
    ]


def test_suppression_that_nothing_needs_is_a_finding() -> None:
    assert findings([], ["CKV_2"]) == [".checkov.yaml: CKV_2 suppresses nothing any more: remove it"]


@pytest.mark.parametrize("report", [{"passed": 0, "failed": 0}, []], ids=["nothing checked", "no framework fits"])
def test_report_without_results_has_no_failures(report: Any) -> None:
    assert read_failures("template", report) == []


def test_checkovs_report_is_read() -> None:
    found = {"check_id": "CKV_1", "resource": "AWS::S3::Bucket.Bucket", "check_name": "is open"}

    assert read_failures("template", {"results": {"failed_checks": [found]}}) == [failure("CKV_1")]


def test_each_suppressed_check_has_its_reason_beside_it() -> None:
    listed = [line for line in CONFIG.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("- ")]

    assert [re.match(r"  - (CKV2?_AWS_\d+) # \w.+ ", line) is not None for line in listed] == [True] * len(listed)
    assert len(listed) == len(suppressions())


def test_checkovs_environment_is_pinned_to_the_last_package() -> None:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()[1:]

    assert any(line.startswith("checkov==") for line in lines)
    assert [line for line in lines if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ; .+)?$", line)] == []


EXPORTED = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
colorama==0.4.6 ; sys_platform == 'win32'
tzdata==2026.6
"""


def test_bill_of_materials_is_of_what_lambdas_python_installs() -> None:
    assert requirements_of_the_runtime(EXPORTED) == "numpy==2.5.5 \\\n    --hash=sha256:cc\ntzdata==2026.6\n"
