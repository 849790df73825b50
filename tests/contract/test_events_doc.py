"""The events in docs/monitoring.md are those that are sent, and its rule for a webhook deploys and gets them."""

import json
import re
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from moto.events.models import EventPattern

from infra.stack.template import TEMPLATE, read_template
from tests.builders_channels import bucket_of_three
from tests.builders_experiments import decided_experiment
from tests.builders_status import monitor_status
from training.experiments.announce import answer_event
from training.experiments.experiment import answers_of
from training.monitoring.monitor.events import SOURCE, channel_moves, state_changes
from training.monitoring.monitor.status import Event

TEXT = (TEMPLATE.parent / "docs" / "monitoring.md").read_text(encoding="utf-8")
(RULE,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
TABLE = dict(re.findall(r"^\| `(ridecast [a-z ]+)` \| (.+) \|$", TEXT, re.MULTILINE))


@pytest.fixture(scope="module")
def events() -> dict[str, dict[str, Any]]:
    """An event of each kind as a rule gets it, by its kind."""
    (first, *_), (move,) = (
        state_changes(None, monitor_status(), "ridecast"),
        channel_moves(bucket_of_three(), {}, "ridecast").events,
    )
    experiment = decided_experiment()
    (answer,) = (
        answer_event(experiment, name, verdict, "ridecast", datetime(2026, 11, 29, tzinfo=UTC))
        for name, verdict in answers_of(experiment).items()
    )
    return {event.detail_type: as_received(event) for event in (first, move, answer)}


def as_received(event: Event) -> dict[str, Any]:
    detail = {"event_id": event.event_id, **event.detail}
    return {"source": SOURCE, "detail-type": event.detail_type, "detail": detail}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The rule as a file."""
    written = tmp_path / "webhook.yaml"
    written.write_text(RULE, encoding="utf-8")
    return written


def test_table_has_each_kind_of_event_with_its_fields(events: dict[str, dict[str, Any]]) -> None:
    documented = {kind: set(re.findall(r"`(\w+)`", names)) for kind, names in TABLE.items()}

    assert documented == {kind: event["detail"].keys() - {"event_id"} for kind, event in events.items()}
    assert "All have an `event_id`" in TEXT


def test_rule_gets_the_events_of_its_stack_alone(path: Path, events: dict[str, dict[str, Any]]) -> None:
    pattern = read_template(path)["Resources"]["Rule"]["Properties"]["EventPattern"]
    assert pattern["detail"]["stack"] == [{"Ref": "RidecastStack"}]
    loaded = EventPattern.load(json.dumps({**pattern, "detail": {"stack": ["ridecast"]}}))

    for event in events.values():
        assert loaded.matches_event(event)
        assert not loaded.matches_event({**event, "detail": {**event["detail"], "stack": "another"}})
        assert not loaded.matches_event({**event, "source": "aws.s3"})


def test_webhook_gets_the_kind_and_the_sentence(path: Path, events: dict[str, dict[str, Any]]) -> None:
    (target,) = read_template(path)["Resources"]["Rule"]["Properties"]["Targets"]
    transformer = target["InputTransformer"]

    assert transformer["InputPathsMap"] == {"kind": "$.detail-type", "text": "$.detail.text"}
    for kind, event in events.items():
        sent = transformer["InputTemplate"].replace("<kind>", kind).replace("<text>", event["detail"]["text"])
        assert json.loads(sent) == {"text": f"{kind}: {event['detail']['text']}"}


@pytest.mark.slow  # cfn-lint takes seconds to import
def test_rule_has_no_finding_of_cfn_lint(path: Path) -> None:
    lint = import_module("infra.stack.lint")

    assert lint.findings(path) == []
