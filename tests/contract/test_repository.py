"""The repository's own files: hooks that work offline, updates of what is pinned, forms that GitHub takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.stack.template import TEMPLATE

ROOT = TEMPLATE.parent
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def test_hooks_before_a_commit_run_checks_of_make_lint_without_network() -> None:
    (local,) = read(".pre-commit-config.yaml")["repos"]
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]

    assert local["repo"] == "local"
    for hook in local["hooks"]:
        program, *words = shlex.split(hook["entry"])
        named = " ".join([Path(program).name, *words[: 2 if words[:1] == ["-m"] else 0]])
        assert hook["language"] == "system"
        assert program.startswith(".venv/bin/")
        assert f"@{named}" in lint, named


def test_updates_cover_the_lock_file_and_the_actions_and_wait_for_a_week() -> None:
    updates = {one["package-ecosystem"]: one for one in read(".github/dependabot.yml")["updates"]}

    assert updates.keys() == {"uv", "github-actions"}
    assert all(one["cooldown"]["default-days"] >= 7 for one in updates.values())


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_form_of_an_issue_has_what_github_requires(form: Path) -> None:
    found = read(str(form.relative_to(ROOT)))
    fields = [one for one in found["body"] if one["type"] != "markdown"]

    assert found["name"]
    assert found["description"]
    assert len({one["id"] for one in fields}) == len(fields)
    assert all(one["attributes"]["label"] for one in fields)
    assert any(one.get("validations", {}).get("required") for one in fields)


def test_vulnerabilities_are_reported_privately_and_to_no_address() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

    assert "Report a vulnerability" in policy
    assert not re.search(r"\S+@\S+", policy)
    for target in re.findall(r"\]\(([^)]+)\)", policy):
        assert (ROOT / target).exists(), target
