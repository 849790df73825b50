"""The rules around checkov: which findings are suppressed, and which suppressions are findings."""

import re
from typing import Any

import pytest

from infra.stack.checkov import CONFIG, REQUIREMENTS, Failure, findings, read_failures, suppressions


def failure(check: str) -> Failure:
    return Failure(check, f"template: AWS::S3::Bucket.Bucket: {check} is open")


def test_failed_check_is_a_finding_unless_it_is_suppressed() -> None:
    assert findings([failure("CKV_1"), failure("CKV_2")], ["CKV_2"]) == [
        "template: AWS::S3::Bucket.Bucket: CKV_1 is open"
    ]


def test_needless_suppression_is_a_finding() -> None:
    assert findings([], ["CKV_2"]) == [".checkov.yaml: CKV_2 suppresses nothing: remove it"]


@pytest.mark.parametrize("report", [{"passed": 0, "failed": 0}, []], ids=["nothing checked", "no framework fits"])
def test_report_without_results_has_no_failures(report: Any) -> None:
    assert read_failures("template", report) == []


def test_checkovs_report_is_read() -> None:
    found = {"check_id": "CKV_1", "resource": "AWS::S3::Bucket.Bucket", "check_name": "is open"}

    assert read_failures("template", {"results": {"failed_checks": [found]}}) == [failure("CKV_1")]


def test_each_suppressed_check_has_a_reason() -> None:
    listed = [line for line in CONFIG.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("- ")]

    assert [re.match(r"  - (CKV2?_AWS_\d+) # \w.+ ", line) is not None for line in listed] == [True] * len(listed)
    assert len(listed) == len(suppressions())


def test_checkovs_environment_is_pinned_completely() -> None:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()[1:]

    assert any(line.startswith("checkov==") for line in lines)
    assert [line for line in lines if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ; .+)?$", line)] == []
