"""CloudFormation's role may make exactly the calls that this template needs.

AWS's registry lists the calls of each resource type's handlers. tests/kits/handler_excuses.py lists those that are not
allowed, with reasons.
"""

from typing import Any

import pytest

from infra.local.moto.policies import is_allowed
from infra.local.stack import Stack
from tests.kits.aws_lists import is_action, resource_kinds, resource_type
from tests.kits.bootstrap import (
    ACCOUNT,
    DEV,
    REGION,
    actions,
    bootstrap_resources,
    document,
    execution_policies,
    resolved,
    statements,
)
from tests.kits.handler_excuses import BY_PROPERTY, BY_REASON
from tests.kits.template import as_list

API = f"arn:aws:apigateway:{REGION}::/apis"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ridecast-dev-Predictor-1X2Y3Z"
LOG_GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:ridecast-dev-PredictorLogs-1X2Y3Z"
ROLLOUT = f"arn:aws:codedeploy:{REGION}:{ACCOUNT}"

ARNS: dict[str, dict[str, list[str]]] = {
    "apigateway": {
        "api": [f"{API}/a1b2c3"],
        "apis": [API],
        **{kind: [f"{API}/a1b2c3/{kind}s/d4"] for kind in ("authorizer", "integration", "route", "stage")},
        **{f"{kind}s": [f"{API}/a1b2c3/{kind}s"] for kind in ("authorizer", "integration", "route", "stage")},
        "accesslogsettings": [f"{API}/a1b2c3/stages/$default/accesslogsettings"],
        "tags": [f"arn:aws:apigateway:{REGION}::/tags/arn%3Aaws%3Aapigateway%3A{REGION}%3A%3A%2Fapis%2Fa1b2c3"],
    },
    "cloudwatch": {
        "alarm": [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:ridecast-dev-IteratorAgeAlarm-1X2Y3Z"],
        "dashboard": [f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/ridecast-dev-{REGION}"],
    },
    "codedeploy": {
        "application": [f"{ROLLOUT}:application:ridecast-dev-ServerlessDeploymentApplication-1X2Y3Z"],
        "deploymentgroup": [
            f"{ROLLOUT}:deploymentgroup:ridecast-dev-ServerlessDeploymentApplication-1X2Y3Z/ridecast-dev"
        ],
        "deploymentconfig": [f"{ROLLOUT}:deploymentconfig:CodeDeployDefault.LambdaCanary10Percent5Minutes"],
    },
    "events": {
        "rule-on-default-event-bus": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/ridecast-dev-GivenUpBatchesRule-1X2Y3Z"]
    },
    "glue": {
        "database": [f"arn:aws:glue:{REGION}:{ACCOUNT}:database/ridecast_dev"],
        "rootcatalog": [f"arn:aws:glue:{REGION}:{ACCOUNT}:catalog"],
        "table": [f"arn:aws:glue:{REGION}:{ACCOUNT}:table/ridecast_dev/labelled_rides"],
        "userdefinedfunction": [f"arn:aws:glue:{REGION}:{ACCOUNT}:userDefinedFunction/ridecast_dev/any"],
    },
    "iam": {
        "policy": [f"arn:aws:iam::{ACCOUNT}:policy/ridecast-dev-DoctorPolicy-1X2Y3Z"],
        "role": [f"arn:aws:iam::{ACCOUNT}:role/ridecast-dev-PredictorRole-1X2Y3Z"],
    },
    "kinesis": {
        "consumer": [f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/ride-events-dev/consumer/ridecast-dev-archive:17"],
        "kmskey": [f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b-2c3d"],
        "stream": [
            f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}-dev"
            for name in ("ride-events", "ride-predictions", "ride-outcomes")
        ],
    },
    "kms": {
        "alias": [f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/ridecast-dev"],
        "key": [f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b-2c3d"],
    },
    "lambda": {
        "eventsourcemapping": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:0a1b-2c3d"],
        "function": [FUNCTION],
        "function alias": [f"{FUNCTION}:live"],
        "function version": [f"{FUNCTION}:7"],
    },
    "logs": {"log-group": [LOG_GROUP, f"{LOG_GROUP}:*"]},  # the suffix depends on the action
    "s3": {
        "bucket": ["arn:aws:s3:::ridecast-dev-bucket-1x2y3z"],
        "object": [f"{DEV['ArtefactBucket.Arn']}/ridecast-dev/package-0a1b.zip"],
    },
    "scheduler": {
        "schedule": [
            f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/ridecast-dev-{name}"
            for name in ("join", "monitor", "loop")
        ]
    },
    "sns": {"topic": [f"arn:aws:sns:{REGION}:{ACCOUNT}:ridecast-dev-AlarmTopic-1X2Y3Z"]},
    "sqs": {"queue": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:ridecast-dev-GivenUpBatches-1X2Y3Z"]},
}
"""ARNs of the stack's resources, by service and IAM's kind."""

CONTEXT = {
    "aws:RequestTag/environment": "dev",
    "aws:RequestTag/project": "ridecast",
    "aws:ResourceAccount": ACCOUNT,
    "aws:ResourceTag/environment": "dev",
    "aws:ResourceTag/project": "ridecast",
    "iam:AWSServiceName": "ops.apigateway.amazonaws.com",
    "iam:PassedToService": "lambda.amazonaws.com",
    "iam:PermissionsBoundary": DEV["Boundary"],
    "lambda:FunctionArn": FUNCTION,
}
"""Context keys of the requests."""

NOT_IN_THE_LIST = {"apigateway:TagResource", "apigateway:UntagResource"}
"""Actions that API Gateway requires although IAM's list lacks them (aws-amplify/amplify-cli#12316)."""

BESIDE_THE_HANDLERS = {
    # HTTP API developer guide, "Configure logging for HTTP APIs": needed to set a stage's access log.
    "logs:CreateLogDelivery": "*",
    "logs:DeleteLogDelivery": "*",
    "logs:DescribeResourcePolicies": "*",
    "logs:GetLogDelivery": "*",
    "logs:ListLogDeliveries": "*",
    "logs:PutResourcePolicy": "*",
    "logs:UpdateLogDelivery": "*",
    # The same guide, "Using service-linked roles": created with the account's first API.
    "iam:CreateServiceLinkedRole": (
        f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ops.apigateway.amazonaws.com/AWSServiceRoleForAPIGateway"
    ),
    # Needed to make a change set of a template with SAM's macro.
    "cloudformation:CreateChangeSet": f"arn:aws:cloudformation:{REGION}:aws:transform/Serverless-2016-10-31",
}
"""Calls that no handler lists."""

TEMPLATE_RESOURCES: dict[str, Any] = Stack().template["Resources"]
TYPES = sorted({resource["Type"] for resource in TEMPLATE_RESOURCES.values()})
DOCUMENTS = [resolved(document(policy), DEV) for policy in execution_policies(bootstrap_resources())]


def excused(name: str) -> set[str]:
    return set().union(*BY_PROPERTY.get(name, {}).values(), BY_REASON.get(name, {}))


def wanted_on(action: str) -> list[str]:
    """Return the ARNs of this stack that an action needs; ``*`` if AWS accepts no other."""
    if action in NOT_IN_THE_LIST:
        return [*ARNS["apigateway"]["api"], *ARNS["apigateway"]["stage"], *ARNS["apigateway"]["stages"]]
    kinds, ours = resource_kinds(action), ARNS.get(action.partition(":")[0], {})
    found = [arn for kind, arns in ours.items() if kind in kinds for arn in arns]
    assert found or not kinds, f"add the resource of {action} to ARNS: {', '.join(sorted(kinds))}"
    return found or ["*"]


def refused(action: str) -> list[str]:
    """Return the ARNs on which the role may not do an action."""
    return [arn for arn in wanted_on(action) if not is_allowed(DOCUMENTS, action, arn, CONTEXT)]


@pytest.mark.parametrize("name", TYPES)
def test_each_call_of_a_types_handlers_is_allowed_or_excused(name: str) -> None:
    calls = {call for call in resource_type(name).calls if is_action(call) or call in NOT_IN_THE_LIST}

    assert {call: found for call in sorted(calls - excused(name)) if (found := refused(call))} == {}


@pytest.mark.parametrize("action", BESIDE_THE_HANDLERS)
def test_each_call_that_no_handler_lists_is_allowed(action: str) -> None:
    assert is_allowed(DOCUMENTS, action, BESIDE_THE_HANDLERS[action], CONTEXT)


@pytest.mark.parametrize("name", sorted(BY_PROPERTY))
def test_property_that_excuses_a_call_exists_and_is_not_set(name: str) -> None:
    used = {key for one in TEMPLATE_RESOURCES.values() if one["Type"] == name for key in one.get("Properties", {})}

    assert BY_PROPERTY[name].keys() <= resource_type(name).properties
    assert not BY_PROPERTY[name].keys() & used, "allow what it needs in infra/stack/bootstrap.yaml"


@pytest.mark.parametrize("name", sorted({*BY_PROPERTY, *BY_REASON}))
def test_each_excuse_is_needed(name: str) -> None:
    assert excused(name) <= resource_type(name).calls
    assert not excused(name) & actions(*execution_policies(bootstrap_resources()))


def test_iams_list_still_lacks_these_actions() -> None:
    assert not {action for action in NOT_IN_THE_LIST if is_action(action)}


def test_only_actions_without_arns_are_allowed_on_everything() -> None:
    open_ones = {
        action
        for statement in statements(*execution_policies(bootstrap_resources()))
        if statement["Effect"] == "Allow" and statement["Resource"] == "*" and "Condition" not in statement
        for action in as_list(statement["Action"])
    }

    assert open_ones
    assert {action for action in open_ones if resource_kinds(action)} == set()


def test_every_allowed_action_is_called() -> None:
    called = set().union(*(resource_type(name).calls for name in TYPES), BESIDE_THE_HANDLERS)

    assert actions(*execution_policies(bootstrap_resources())) <= called
