"""The bootstrap template: trust, permissions and boundary of its roles; template.yaml needs no more."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from infra.local.moto.policies import is_allowed
from infra.local.stack import Stack
from infra.stack.template import BOOTSTRAP, read_template
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
from tests.kits.template import SIGNING_KEY, as_list, stack

GITHUB = "token.actions.githubusercontent.com"
MAX_POLICY_CHARS = {"AWS::IAM::ManagedPolicy": 6_144, "AWS::IAM::Role": 10_240}
"""IAM's limits of a managed policy and of a role's own, white space not counted."""

LONGEST_NAME = "x" * 31
LONGEST = {
    "AWS::Partition": "aws",
    "AWS::Region": "ap-southeast-1",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": LONGEST_NAME,
    "StackName": LONGEST_NAME,
    "EnvironmentName": "x" * 16,
    "RideEventsName": "x" * 48,
    "RidePredictionsName": "y" * 48,
    "RideOutcomesName": "z" * 48,
    "ArtefactBucket.Arn": f"arn:aws:s3:::{'x' * 63}",
    "ExecutionRole.Arn": f"arn:aws:iam::123456789012:role/{'x' * 64}",
    "Boundary": f"arn:aws:iam::123456789012:policy/{'x' * 128}",
}
"""The longest value of each reference of the bootstrap template."""

_OF_THE_ACCOUNT = f"{LONGEST['AWS::Region']}:{LONGEST['AWS::AccountId']}"
_FUNCTION = f"arn:aws:lambda:{_OF_THE_ACCOUNT}:function:{LONGEST_NAME}"
DEPLOYED = {
    **LONGEST,
    "Bucket.Arn": f"arn:aws:s3:::{LONGEST_NAME}-bucket-1x2y3z",
    "Key.Arn": f"arn:aws:kms:{_OF_THE_ACCOUNT}:key/0a1b",
    "ModelSigningKeyArn": f"arn:aws:kms:{_OF_THE_ACCOUNT}:key/2c3d",
    **{f"{name}.Arn": f"{_FUNCTION}-{name}-1X2Y3Z" for name in ("Joiner", "Monitor", "Looper", "Collector", "Trainer")},
    "LooperAliaslive": f"{_FUNCTION}-Looper-1X2Y3Z:live",
    "LoopFailures.Arn": f"arn:aws:sqs:{_OF_THE_ACCOUNT}:{LONGEST_NAME}-LoopFailures-1X2Y3Z",
    "ModelChannel": "stable",
    "RideOutcomes": LONGEST["RideOutcomesName"],
    "PreTraffic.Arn": f"{_FUNCTION}-PreTraffic-1X2Y3Z",
    "PredictorRole.Arn": f"arn:aws:iam::{ACCOUNT}:role/{LONGEST_NAME}-PredictorRole-1X2Y3Z",
    "Predictor.Arn": f"{_FUNCTION}-Predictor-1X2Y3Z",
    "RideEvents.Arn": f"arn:aws:kinesis:{_OF_THE_ACCOUNT}:stream/{LONGEST['RideEventsName']}",
    "RejectsQueue.Arn": f"arn:aws:sqs:{_OF_THE_ACCOUNT}:{LONGEST_NAME}-RejectsQueue-1X2Y3Z",
    "RidePredictions.Arn": f"arn:aws:kinesis:{_OF_THE_ACCOUNT}:stream/{LONGEST['RidePredictionsName']}",
    "RideOutcomes.Arn": f"arn:aws:kinesis:{_OF_THE_ACCOUNT}:stream/{LONGEST['RideOutcomesName']}",
    **{
        f"{name}Consumer": (
            f"arn:aws:kinesis:{_OF_THE_ACCOUNT}:stream/{LONGEST[f'{name}Name']}/consumer/{LONGEST_NAME}-archive:17"
        )
        for name in ("RideEvents", "RidePredictions", "RideOutcomes")
    },
    "ServerlessDeploymentApplication": f"{LONGEST_NAME}-ServerlessDeploymentApplication-1X2Y3Z",
    **{
        f"{name}Logs.Arn": f"arn:aws:logs:{_OF_THE_ACCOUNT}:log-group:{LONGEST_NAME}-{name}Logs-1X2Y3Z:*"
        for name in (
            *(
                "ApiFunction",
                "Archiver",
                "Collector",
                "Joiner",
                "Looper",
                "Monitor",
                "PreTraffic",
                "Predictor",
                "Trainer",
            ),
        )
    },
}
"""The references of template.yaml's roles, as CloudFormation names them."""


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return bootstrap_resources()


# Trust ----------------------------------------------------------------------------------------------------------------


def token(environment: str, **claims: str) -> dict[str, str]:
    """Return the claims of GitHub's token for a job of the repository, by IAM's condition keys.

    Args:
        environment: Of the job.
        claims: Other values.
    """
    ours = {
        "aud": "sts.amazonaws.com",
        "repository_id": "456789",
        "repository_owner_id": "123456",
        "sub": f"repo:owner@123456/ridecast@456789:environment:{environment}",
    }
    return {f"{GITHUB}:{name}": value for name, value in {**ours, **claims}.items()}


def is_trusted(role: dict[str, Any], claims: dict[str, str]) -> bool:
    policy = role["Properties"]["AssumeRolePolicyDocument"]
    trust = [{**one, "Condition": resolved(one["Condition"], DEV)} for one in policy["Statement"]]
    return is_allowed([{"Statement": trust}], "sts:AssumeRoleWithWebIdentity", "*", claims)


ROLES_OF_JOBS = pytest.mark.parametrize(("role", "environment"), [("PlanRole", "dev-plan"), ("DeployRole", "dev")])


@ROLES_OF_JOBS
def test_role_trusts_one_environment_of_one_repository_in_both_forms_of_the_subject(
    resources: dict[str, Any], role: str, environment: str
) -> None:
    without_ids = f"repo:owner/ridecast:environment:{environment}"
    without_owner = {name: value for name, value in token(environment).items() if not name.endswith("owner_id")}

    assert is_trusted(resources[role], token(environment))
    assert is_trusted(resources[role], token(environment, sub=without_ids))
    assert is_trusted(resources[role], without_owner)  # in case that IAM does not pass this claim on


@ROLES_OF_JOBS
@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "repo:owner@123456/ridecast@456789:environment:prod"},
        {"sub": "repo:owner@123456/ridecast@456789:ref:refs/heads/main"},
        {"sub": "repo:owner@123456/ridecast@456789:pull_request"},
        {"sub": "repo:owner/another:environment:dev", "repository_id": "1"},
        {"sub": "repo:owner@123456/another@1:environment:dev", "repository_id": "1"},
        {"sub": "repo:owner/ridecast:environment:dev", "repository_id": "1"},  # somebody else has taken the name
        {"sub": "repo:owner/ridecast:environment:dev-plan", "repository_id": "1"},
        {"repository_owner_id": "1"},
        {"aud": "https://github.com/owner"},
    ],
    ids=lambda claims: ",".join(claims.values()),
)
def test_role_trusts_nothing_else(
    resources: dict[str, Any], role: str, environment: str, claims: dict[str, str]
) -> None:
    assert not is_trusted(resources[role], token(environment, **claims))


@ROLES_OF_JOBS
def test_trust_has_no_pattern_and_only_a_web_identity_is_trusted(
    resources: dict[str, Any], role: str, environment: str
) -> None:
    (statement,) = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Principal"] == {"Federated": {"Ref": "OidcProvider"}}
    (of_another,) = bootstrap_resources(OidcProviderArn="arn")[role]["Properties"]["AssumeRolePolicyDocument"][
        "Statement"
    ]
    assert of_another["Principal"] == {"Federated": {"Ref": "OidcProviderArn"}}
    assert set(statement["Condition"]) == {"StringEquals", "StringEqualsIfExists"}
    assert set(statement["Condition"]["StringEqualsIfExists"]) == {f"{GITHUB}:repository_owner_id"}


@pytest.mark.parametrize("repository", ["*/*", "owner/*", "owner", "owner/name:ref", "owner/name/more"])
def test_repository_is_a_name_and_not_a_pattern(repository: str) -> None:
    allowed = read_template(BOOTSTRAP)["Parameters"]["Repository"]["AllowedPattern"]

    assert not re.fullmatch(allowed, repository)
    assert re.fullmatch(allowed, "owner/ridecast")


@pytest.mark.parametrize("parameter", ["RepositoryId", "RepositoryOwnerId"])
def test_id_is_a_number_and_has_no_default(parameter: str) -> None:
    declared = read_template(BOOTSTRAP)["Parameters"][parameter]

    assert "Default" not in declared
    assert re.fullmatch(declared["AllowedPattern"], "1369174881")
    assert not [one for one in ("", "*", "0", "owner") if re.fullmatch(declared["AllowedPattern"], one)]


def test_only_cloudformation_assumes_the_execution_role(resources: dict[str, Any]) -> None:
    (statement,) = resources["ExecutionRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    assert (statement["Principal"], statement["Action"]) == (
        {"Service": "cloudformation.amazonaws.com"},
        "sts:AssumeRole",
    )


# Permissions ----------------------------------------------------------------------------------------------------------


def test_planning_role_can_execute_nothing(resources: dict[str, Any]) -> None:
    planning = actions(resources["PlanRole"])

    assert "cloudformation:CreateChangeSet" in planning
    assert not planning & {
        "cloudformation:ExecuteChangeSet",
        "cloudformation:CreateStack",
        "cloudformation:UpdateStack",
        "cloudformation:DeleteStack",
    }


@pytest.mark.parametrize("role", ["PlanRole", "DeployRole"])
def test_change_sets_are_made_for_the_execution_role_only(resources: dict[str, Any], role: str) -> None:
    execution_role = {"Fn::GetAtt": ["ExecutionRole", "Arn"]}
    made = [one for one in statements(resources[role]) if one["Action"] == "cloudformation:CreateChangeSet"]
    of_a_stack = [one for one in made if ":stack/" in str(one["Resource"])]
    (passed,) = [one for one in statements(resources[role]) if one["Action"] == "iam:PassRole"]

    assert [one["Condition"] for one in of_a_stack] == [{"ArnEquals": {"cloudformation:RoleArn": execution_role}}]
    assert passed["Resource"] == execution_role
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}


@pytest.mark.parametrize("role", ["PlanRole", "DeployRole"])
def test_roles_of_workflows_change_nothing_directly(resources: dict[str, Any], role: str) -> None:
    changing = re.compile(r":(Create|Update|Delete|Put|Set|Add|Remove|Attach|Detach)")
    may = {action for action in actions(resources[role]) if changing.search(action)}

    assert may <= {
        "cloudformation:CreateChangeSet",
        "cloudformation:DeleteChangeSet",
        "kinesis:PutRecords",  # the smoke test's rides
        "s3:PutObject",  # releases, into the artefact bucket
    }


def test_roles_are_made_under_the_boundary_only(resources: dict[str, Any]) -> None:
    every = statements(*execution_policies(resources))
    (making,) = [one for one in every if "iam:CreateRole" in as_list(one["Action"])]
    allowed = actions(*execution_policies(resources))

    assert making["Condition"] == {"ArnEquals": {"iam:PermissionsBoundary": {"Ref": "Boundary"}}}
    assert {"iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"} <= set(making["Action"])
    assert not allowed & {"iam:AttachRolePolicy", "iam:DeleteRolePermissionsBoundary"}


def test_no_deployment_changes_its_boundary(resources: dict[str, Any]) -> None:
    (denied,) = [one for one in statements(*execution_policies(resources)) if one["Effect"] == "Deny"]
    made_here = {one["Type"] for one in resources.values()} - {"AWS::IAM::OIDCProvider", "AWS::S3::BucketPolicy"}

    assert made_here == {"AWS::IAM::ManagedPolicy", "AWS::IAM::Role", "AWS::S3::Bucket"}
    assert denied["Action"] == ["iam:*", "s3:DeleteBucket*", "s3:Put*"]
    assert denied["Resource"] == [
        {"Fn::GetAtt": ["ArtefactBucket", "Arn"]},
        {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/${AWS::StackName}-*"},
        {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${AWS::StackName}-*"},
    ]


def test_templates_roles_take_the_boundary() -> None:
    roles = [one["Properties"] for one in Stack().template["Resources"].values() if one["Type"] == "AWS::IAM::Role"]
    bounded = {"Fn::If": ["RolesAreBounded", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]}

    assert [role.get("PermissionsBoundary") for role in roles] == [bounded] * len(roles)


def test_boundary_allows_no_privilege_escalation(resources: dict[str, Any]) -> None:
    services = {action.partition(":")[0] for action in actions(resources["Boundary"])}

    assert services <= {"cloudwatch", "codedeploy", "events", "iam", "kinesis", "kms", "lambda", "logs", "s3", "sqs"}
    assert {one for one in actions(resources["Boundary"]) if one.startswith("iam:")} == {"iam:SimulatePrincipalPolicy"}
    assert {action for action in actions(resources["Boundary"]) if re.search(":(Create|Delete|Update)", action)} == {
        "lambda:UpdateAlias",
        "logs:CreateLogStream",
    }


def test_execution_role_has_no_access_to_data_in_bucket_and_streams(
    resources: dict[str, Any],
) -> None:
    reading = [one for one in statements(*execution_policies(resources)) if "s3:GetObject" in as_list(one["Action"])]

    assert [one["Resource"] for one in reading] == [{"Fn::Sub": "${ArtefactBucket.Arn}/${StackName}/*"}]
    assert not actions(*execution_policies(resources)) & {
        "kinesis:GetRecords",
        "kinesis:PutRecords",
        "kms:Decrypt",
        "lambda:InvokeFunction",
        "s3:DeleteObject",
        "s3:PutObject",
    }


# Two environments in one account -------------------------------------------------------------------------------------


KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b-2c3d"
OF_ANY_KEY = {"kms:GetPublicKey", "kms:Verify"}
"""What the boundary allows on each key: a signing key is made by hand, and what it signed may be verified by all."""


def allowed_on_a_key(documents: list[dict[str, Any]], project: str, environment: str) -> set[str]:
    """Return KMS's actions that policies of dev allow on a key with these tags, whatever tags the request has."""
    context = {
        "aws:RequestTag/environment": "dev",
        "aws:RequestTag/project": "ridecast",
        "aws:ResourceTag/environment": environment,
        "aws:ResourceTag/project": project,
        "kms:ViaService": f"kinesis.{REGION}.amazonaws.com",
    }
    listed = {action for one in documents for each in one["Statement"] for action in as_list(each["Action"])}
    mine = {action for action in listed if action.startswith("kms:") and action != "kms:ListAliases"}
    return {action for action in mine if is_allowed(documents, action, KEY, context)}


@pytest.mark.parametrize("policies", [["PlanRole"], ["DeployRole"], ["Boundary"], ["ExecutionData"]], ids=str)
def test_no_environment_touches_the_keys_of_another(resources: dict[str, Any], policies: list[str]) -> None:
    documents = [resolved(document(resources[name]), DEV) for name in policies]

    others = allowed_on_a_key(documents, "ridecast", "prod") | allowed_on_a_key(documents, "another", "dev")

    assert others <= OF_ANY_KEY
    assert bool(allowed_on_a_key(documents, "ridecast", "dev") - OF_ANY_KEY) == (policies != ["PlanRole"])


# Wildcards ------------------------------------------------------------------------------------------------------------


def wildcard_lines() -> Iterator[tuple[int, str]]:
    """Yield lines with `*` in an action or a resource."""
    for number, line in enumerate(BOOTSTRAP.read_text(encoding="utf-8").splitlines(), start=1):
        code, _, _comment = line.partition(" #")
        if "*" in code and re.search(r"Resource:|Action:|- !Sub|- \w+:", code):
            yield number, line


def test_no_allowed_action_is_a_wildcard(resources: dict[str, Any]) -> None:
    policies = [one for one in resources.values() if one["Properties"].keys() & {"Policies", "PolicyDocument"}]
    assert len(policies) > 5
    assert not [action for action in actions(*policies) if "*" in action]


def test_each_wildcard_has_its_reason_beside_it() -> None:
    lines = BOOTSTRAP.read_text(encoding="utf-8").splitlines()
    found = list(wildcard_lines())
    bare = [
        f"{number}: {line.strip()}" for number, line in found if " # " not in line and " # " not in lines[number - 2]
    ]

    assert len(found) > 20
    assert not bare


# Boundary and limits --------------------------------------------------------------------------------------------------


EVERYTHING: dict[str, str | int] = {"LoopMode": "on", "EnhancedFanOut": "On", "ModelSigningKeyArn": SIGNING_KEY}
"""Parameters with which template.yaml's roles need most."""

EXISTING_STREAMS = {
    f"{name}{end}": arn
    for name, n_characters in (("RideEvents", 128), ("RidePredictions", 60), ("RideOutcomes", 128))
    for end, arn in (
        ("Arn", f"arn:aws:kinesis:{_OF_THE_ACCOUNT}:stream/{name.lower().ljust(n_characters, '-')}"),
        ("KeyArn", f"arn:aws:kms:{_OF_THE_ACCOUNT}:key/{name.lower().ljust(36, '0')}"),
    )
}
"""Parameters of both templates for streams that exist already, with the longest names."""


def calls_of_the_templates_roles(**parameters: str) -> set[tuple[str, str, str]]:
    """Return role, action and ARN of everything that template.yaml allows."""
    deployed: dict[str, Any] = stack(**EVERYTHING, **parameters).decided["Resources"]
    versions = {name: one["Properties"] for name, one in deployed.items() if one["Type"] == "AWS::Lambda::Version"}
    values = {
        **DEPLOYED,
        **parameters,
        **{name: f"{DEPLOYED[one['FunctionName']['Ref'] + '.Arn']}:7" for name, one in versions.items()},
    }
    return {
        (name, action, arn)
        for name, role in deployed.items()
        if role["Type"] in {"AWS::IAM::Role", "AWS::IAM::Policy"}
        for statement in (resolved(one, values) for one in statements(role))
        for action in as_list(statement["Action"])
        for arn in as_list(statement["Resource"])
    }


@pytest.mark.parametrize("streams", [{}, EXISTING_STREAMS], ids=["own streams", "existing streams"])
def test_boundary_allows_everything_that_the_templates_roles_may_do(streams: dict[str, str]) -> None:
    boundary = resolved(document(bootstrap_resources(**streams)["Boundary"]), {**DEPLOYED, **streams})
    context = {
        "aws:ResourceAccount": DEPLOYED["AWS::AccountId"],
        "aws:ResourceTag/environment": DEPLOYED["EnvironmentName"],
        "aws:ResourceTag/project": "ridecast",
        "events:source": "ridecast",
        "kms:ViaService": f"kinesis.{LONGEST['AWS::Region']}.amazonaws.com",
    }
    calls = calls_of_the_templates_roles(**streams)

    assert len(calls) > 20
    assert {call for call in calls if not is_allowed([boundary], call[1], call[2], context)} == set()


def test_execution_role_may_only_resize_a_stream_that_existed_before() -> None:
    """Whatever name the stack's own stream of that kind would have. AWS takes no ARN for the calls that resize."""
    theirs = {"RideEventsArn": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{DEV['RideEventsName']}"}
    values = {**DEV, **theirs}
    own, existing = (
        {
            action
            for policy in execution_policies(bootstrap_resources(**given))
            for statement in resolved(document(policy), values)["Statement"]
            for action in as_list(statement["Action"])
            if {theirs["RideEventsArn"], "*"} & set(as_list(statement["Resource"])) and action.startswith("kinesis:")
        }
        for given in ({}, theirs)
    )

    assert {"kinesis:CreateStream", "kinesis:DeleteStream"} <= own
    assert existing == {
        "kinesis:DisableEnhancedMonitoring",
        "kinesis:EnableEnhancedMonitoring",
        "kinesis:RegisterStreamConsumer",
        "kinesis:UpdateShardCount",
        "kinesis:UpdateStreamMode",
    }
    assert "Streams" not in {
        one["Sid"] for one in document(bootstrap_resources(**EXISTING_STREAMS)["ExecutionData"])["Statement"]
    }


@pytest.mark.parametrize("streams", [{}, EXISTING_STREAMS], ids=["own streams", "existing streams"])
def test_policies_fit_into_iams_limits(streams: dict[str, str]) -> None:
    for name, resource in bootstrap_resources(**streams).items():
        if resource["Type"] in MAX_POLICY_CHARS and name != "ExecutionRole":
            text = json.dumps(resolved(document(resource), {**LONGEST, **streams}), separators=(",", ":"))
            assert len(text) <= MAX_POLICY_CHARS[resource["Type"]], f"{name} has {len(text)} characters"


@pytest.mark.slow
def test_cfn_lint_accepts_every_property_and_action(tmp_path: Path) -> None:
    lint = import_module("infra.stack.lint")  # cfn-lint takes seconds to import
    misspelt = tmp_path / "bootstrap.yaml"
    text = BOOTSTRAP.read_text(encoding="utf-8")
    misspelt.write_text(text.replace("kinesis:CreateStream", "kinesis:CreateStraem"), encoding="utf-8")

    assert lint.findings(BOOTSTRAP) == []
    assert [finding.split()[0] for finding in lint.findings(misspelt)] == ["W3037"]
