"""EventBridge rules with a topic as a target, which moto lacks: it sends events to queues, logs and buses only."""

import json
from typing import Any

from moto.events.models import Rule
from moto.events.utils import EventMessageType
from moto.sns.models import sns_backends


def patch_events() -> None:
    """Let rules publish to topics, in the whole process."""
    Rule.send_to_targets = _send_to_targets


_moto_send = Rule.send_to_targets


def _send_to_targets(rule: Rule, event: EventMessageType, transform_input: bool = True) -> None:
    topics = [target for target in rule.targets if target["Arn"].startswith("arn:aws:sns:")]
    if not topics:
        _moto_send(rule, event, transform_input)
        return
    if rule.event_pattern.matches_event(event):
        for target in topics:
            backend = sns_backends[rule.account_id][rule.region_name]
            backend.publish(message=json.dumps(_input(target, event)), arn=target["Arn"])


def _input(target: dict[str, Any], event: Any) -> Any:
    """Return the part of an event that a target gets: a path of names, as in ``$.detail.text``."""
    for name in target.get("InputPath", "$").split(".")[1:]:
        event = event[name]
    return event
