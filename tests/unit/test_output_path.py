"""The output path of a new version: each missing part is named, and a check that is refused is no pass."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambda_function.errors import ConfigurationError
from tests.fakes import BUCKET
from tests.fakes_output_path import KEY, NEW_VERSION, ROLE, STREAM, VARIABLES, FakeAccount
from tests.outcomes import DENIED, SERVICE_DOWN

REJECTS = f"arn:aws:s3:::{BUCKET}/rejects/"
NO_STATEMENT = {"EvalDecision": "implicitDeny"}


def problem(**account: Any) -> str:
    return FakeAccount(**account).output_path().problem(NEW_VERSION)


@pytest.mark.parametrize(
    "account",
    [
        {},
        {"key_id": ""},
        {"key_id": "alias/aws/kinesis", "errors": {"describe_key": DENIED}},
        {"stream_status": "UPDATING"},
        {"variables": VARIABLES | {"REJECTS_QUEUE_URL": ""}},
    ],
    ids=["encrypted", "not encrypted", "AWS's own key", "more shards are made", "no queue"],
)
def test_version_that_may_publish_has_no_problem(account: dict[str, Any]) -> None:
    assert problem(**account) == ""


def test_what_publishing_and_storing_rejects_need_is_simulated() -> None:
    account = FakeAccount()
    account.output_path().problem(NEW_VERSION)

    here = {"aws:ResourceAccount": "123456789012"}
    through = {"kms:ViaService": "kinesis.eu-west-1.amazonaws.com", "aws:ResourceTag/project": "ridecast"}
    assert account.simulated == [
        ("s3:PutObject", REJECTS, here),
        ("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:rejects", here),
        ("kinesis:PutRecords", STREAM, here),
        ("kms:GenerateDataKey", KEY, here | through),
    ]


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        (
            {"variables": VARIABLES | {"OUTPUT_STREAM": "nope"}},
            "arn:aws:kinesis:eu-west-1:123456789012:stream/nope does not exist",
        ),
        ({"stream_status": "DELETING"}, f"the output stream {STREAM} is DELETING"),
        ({"key_state": "PendingDeletion"}, f"the key {KEY} of the output stream is PendingDeletion"),
        ({"key_id": f"{KEY}-gone"}, f"{KEY}-gone does not exist"),
        (
            {"decisions": {"kinesis:PutRecords": NO_STATEMENT}},
            f"the version's role {ROLE} may not kinesis:PutRecords on {STREAM}: no statement allows it",
        ),
        (
            {"decisions": {"kms:GenerateDataKey": {"EvalDecision": "explicitDeny"}}},
            f"the version's role {ROLE} may not kms:GenerateDataKey on {KEY}: a statement denies it",
        ),
        (
            {
                "decisions": {
                    "s3:PutObject": {
                        **NO_STATEMENT,
                        "PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False},
                    }
                }
            },
            f"the version's role {ROLE} may not s3:PutObject on {REJECTS}: its permissions boundary does not allow it",
        ),
        (
            {
                "decisions": {
                    "s3:PutObject": {
                        "EvalDecision": "explicitDeny",
                        "OrganizationsDecisionDetail": {"AllowedByOrganizations": False},
                    }
                }
            },
            f"the version's role {ROLE} may not s3:PutObject on {REJECTS}: a policy of the organization forbids it",
        ),
        (
            {
                "decisions": {
                    "kinesis:PutRecords": {
                        **NO_STATEMENT,
                        "ResourceSpecificResults": [{"MissingContextValues": ["aws:SourceVpc"]}],
                    }
                }
            },
            (
                f"the version's role {ROLE} may not kinesis:PutRecords on {STREAM}: no statement allows it without a"
                " condition on aws:SourceVpc, which this check does not know"
            ),
        ),
    ],
    ids=[
        "missing stream",
        "stream that goes",
        "key that goes",
        "missing key",
        "no permission",
        "denied",
        "boundary",
        "organization",
        "condition",
    ],
)
def test_missing_part_is_named(account: dict[str, Any], expected: str) -> None:
    assert problem(**account) == expected


def test_all_problems_are_named_together() -> None:
    found = problem(decisions={"s3:PutObject": NO_STATEMENT, "kinesis:PutRecords": NO_STATEMENT}, key_state="Disabled")

    assert [text.split(" on ")[0].split()[-1] for text in found.split("; ")[:2]] == [
        "s3:PutObject",
        "kinesis:PutRecords",
    ]
    assert found.endswith(f"; the key {KEY} of the output stream is Disabled")


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("get_function_configuration", f"lambda:GetFunctionConfiguration on {NEW_VERSION}"),
        ("simulate_principal_policy", f"iam:SimulatePrincipalPolicy on {ROLE}"),
        ("describe_stream_summary", f"kinesis:DescribeStreamSummary on {STREAM}"),
        ("describe_key", f"kms:DescribeKey on {KEY}"),
        ("list_resource_tags", f"kms:ListResourceTags on {KEY}"),
    ],
)
def test_check_that_is_refused_is_a_problem_that_names_the_hooks_missing_permission(
    method: str, permission: str
) -> None:
    assert problem(errors={method: DENIED}) == f"the hook may not {permission}, so it cannot check it"


def test_check_without_an_answer_is_no_pass() -> None:
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        problem(errors={"describe_stream_summary": SERVICE_DOWN})


def test_version_without_an_output_stream_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="OUTPUT_STREAM is missing"):
        problem(variables=VARIABLES | {"OUTPUT_STREAM": ""})
