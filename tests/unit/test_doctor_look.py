"""What the doctor picks out of Lambda's answers: its own mapping and its own versions, among those of others."""

from types import SimpleNamespace
from typing import Any

from infra.operate.doctor.alarms import count_told
from infra.operate.doctor.function import look_at_mapping, look_at_release
from infra.stack.describe import Resource

ALIAS = "arn:aws:lambda:us-east-1:123456789012:function:predictor:live"


class Mappings:
    """Lambda with two mappings to one alias, from two streams."""

    def list_event_source_mappings(self, *, FunctionName: str, EventSourceArn: str = "") -> dict[str, Any]:  # noqa: N803
        """Lists those to a function, from one stream where one is named."""
        streams = {"other": "Enabled", "rides": "Disabled"} if FunctionName == ALIAS else {}
        wanted = [EventSourceArn] if EventSourceArn else list(streams)
        found = [{"State": streams[arn], "BatchSize": 1} for arn in wanted if arn in streams]
        return {"EventSourceMappings": found}


def version(function: str, number: int) -> Resource:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}:{number}"
    return Resource(f"Version{number}", arn, "AWS::Lambda::Version")


def lambda_with_alias_at(serving: str, **more: Any) -> Any:
    return SimpleNamespace(get_alias=lambda **_: {"FunctionVersion": serving, **more})


def test_mapping_from_another_stream_to_the_same_alias_is_not_the_functions_own() -> None:
    assert look_at_mapping(Mappings(), ALIAS, "rides").state == "Disabled"
    assert look_at_mapping(Mappings(), ALIAS, "gone").state == ""


def test_latest_version_of_the_function_is_the_one_published_whatever_other_functions_have() -> None:
    resources = [version("predictor", 9), version("predictor", 10), version("other", 11), version("my-predictor", 12)]

    release = look_at_release(lambda_with_alias_at("9", RoutingConfig=None), "predictor", ALIAS, resources)

    assert (release.alias, release.serving, release.published, release.next_version) == ("live", "9", "10", "")


def test_stack_whose_resources_are_unknown_has_published_nothing_that_is_known() -> None:
    assert look_at_release(lambda_with_alias_at("9"), "predictor", ALIAS, ()).published == ""


class Topics:
    """Topics with confirmed subscriptions, by ARN."""

    def __init__(self, **n_confirmed: int) -> None:
        self._n_confirmed = n_confirmed

    def get_topic_attributes(self, *, TopicArn: str) -> dict[str, dict[str, str]]:  # noqa: N803
        """Tells a topic's."""
        return {"Attributes": {"SubscriptionsConfirmed": str(self._n_confirmed[TopicArn]), "SubscriptionsPending": "9"}}


def test_those_are_told_who_have_confirmed() -> None:
    topic, queue = Resource("AlarmTopic", "topic", "AWS::SNS::Topic"), Resource("Queue", "queue", "AWS::SQS::Queue")

    assert count_told(Topics(topic=2), (queue, topic)) == 2
    assert count_told(Topics(topic=0), (topic,)) == 0
    assert count_told(Topics(), (queue,)) is None
