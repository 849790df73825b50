"""The runbook has a section for every alarm, and names only existing commands, parameters and panels."""

import re
from typing import Any

import pytest
import typer

from infra.cli.app import app
from infra.local.stack import Stack
from infra.operate.doctor.faults import FAULTS
from infra.stack.template import TEMPLATE
from tests.kits.alarms import Properties
from tests.kits.dashboard import read_panels
from tests.kits.fault_table import with_table

RUNBOOK = (TEMPLATE.parent / "docs" / "runbook.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)


OTHER_SECTIONS = ["Faults", "Repair"]


def test_every_alarm_has_a_section_and_every_section_an_alarm(alarms: dict[str, Properties]) -> None:
    assert sorted(HEADINGS) == sorted([*alarms, *OTHER_SECTIONS])


@pytest.mark.parametrize("heading", HEADINGS)
def test_section_has_meaning_evidence_and_steps(heading: str) -> None:
    section = RUNBOOK.split(f"## {heading}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\*\*(.+?):?\*\*", section, re.MULTILINE) == ["It means", "Look at", "Do"]


@pytest.mark.parametrize(
    "name", ["FunctionErrorsAlarm", "RetriedRecordsAlarm", "IteratorAgeAlarm", "RefreshFailuresAlarm"]
)
def test_section_of_an_alarm_that_rolls_code_back_says_how_to_deploy_its_fix(stack: Stack, name: str) -> None:
    watched = stack.template["Resources"]["PredictorDeploymentGroup"]["Properties"]["AlarmConfiguration"]["Fn::If"][1]
    assert {"Name": {"Ref": name}} in watched["Alarms"]
    section = RUNBOOK.split(f"## {name}\n")[1].split("\n## ")[0]
    assert "deploy" in section
    assert "`RolloutAlarms=Ignored`" in section


def test_everything_that_the_runbook_names_exists(stack: Stack) -> None:
    template = stack.template
    assert set(re.findall(r"\(named (\w+)\)", RUNBOOK)) <= set(template["Resources"])
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {heading.lower() for heading in HEADINGS}
    titles = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOK))
    assert titles <= {panel.title for panel in read_panels()}
    parameters = re.findall(
        r"`((?:RideE|RideP|Api[A-Z][a-z]+Re|Max|Reserved|Parallel|Memory|Timeout|KeptR|Output|Batch|Rollout)\w+)(?:=\w+)?`",
        RUNBOOK,
    )
    mapping = template["Resources"]["PredictorRides"]["Properties"]
    assert set(parameters) <= {*template["Parameters"], *mapping}
    outputs = set(re.findall(r"(?:the output `|\(output )(\w+)", RUNBOOK))
    assert {"AlarmTopicArn", "GivenUpBatchesUrl"} <= outputs <= set(template["Outputs"])


def test_every_command_of_the_runbook_exists() -> None:
    group: Any = typer.main.get_command(app)
    text = " ".join(RUNBOOK.split())
    named = {tuple(words.split()) for words in re.findall(r"\bridecast ([a-z]+(?: [a-z]+)?)", text)}
    assert len(named) >= 8
    for first, *rest in named:
        assert first in group.commands, first
        verbs = getattr(group.commands[first], "commands", None)
        assert verbs is None or rest[0] in verbs, (first, rest)


def test_table_of_faults_is_the_doctors_list() -> None:
    """If this fails, run `python -m tests.kits.fault_table`."""
    assert with_table(RUNBOOK) == RUNBOOK


def test_every_alarm_is_set_off_by_a_fault_of_the_list(alarms: dict[str, Properties]) -> None:
    named = {name for fault in FAULTS.values() for name in fault.alarms}
    assert named == {*alarms, "StackAlarm", "AuditAlarm", "MonitorAlarm", "LoopAlarm"}


def test_every_place_that_a_remedy_names_is_a_section() -> None:
    named = {place for fault in FAULTS.values() for place in re.findall(r"runbook\.md#(\w+)", fault.remedy)}
    assert named <= {heading.lower() for heading in HEADINGS}
