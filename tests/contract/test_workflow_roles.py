"""The two roles of GitHub's workflows: each may make the calls of its job's steps, and no others."""

import pytest

from infra.local.moto.policies import is_allowed
from tests.kits.bootstrap import ACCOUNT, DEV, REGION, actions, bootstrap_resources, document, resolved

STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/ridecast-dev/0a1b-2c3d"
NO_STACK_YET = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/ridecast-dev/*"
MACRO = f"arn:aws:cloudformation:{REGION}:aws:transform/Serverless-2016-10-31"
RELEASES = DEV["ArtefactBucket.Arn"]
UPLOADED = f"{RELEASES}/ridecast-dev/0a1b.template"
BUCKET = "arn:aws:s3:::ridecast-dev-bucket-1x2y3z"
MODEL = f"{BUCKET}/models/green-2021-01-0a1b"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b-2c3d"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ridecast-dev-Predictor-1X2Y3Z"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream"

CALLS: dict[str, dict[str, list[str]]] = {
    "PlanRole": {  # `python -m infra.stack.change_set plan`
        "cloudformation:CreateChangeSet": [STACK, NO_STACK_YET, MACRO],
        "cloudformation:DeleteChangeSet": [STACK],
        "cloudformation:DescribeChangeSet": [STACK],
        "cloudformation:DescribeStacks": [STACK, NO_STACK_YET],
        "cloudformation:ListChangeSets": [STACK],
        "iam:PassRole": [DEV["ExecutionRole.Arn"]],
        "s3:GetObject": [UPLOADED],
        "s3:ListBucket": [RELEASES],
        "s3:PutObject": [UPLOADED],
    },
    "DeployRole": {  # `python -m infra.stack.change_set execute`, `verify` and `undo`, and `ridecast smoke`
        "cloudformation:CreateChangeSet": [STACK, MACRO],
        "cloudformation:DescribeChangeSet": [STACK],
        "cloudformation:DescribeStackEvents": [STACK],
        "cloudformation:DescribeStacks": [STACK],
        "cloudformation:ExecuteChangeSet": [STACK],
        "cloudformation:GetTemplate": [STACK],
        "cloudformation:ListStackResources": [STACK],
        "iam:PassRole": [DEV["ExecutionRole.Arn"]],
        "kinesis:GetRecords": [f"{STREAM}/ride-predictions-dev"],
        "kinesis:GetShardIterator": [f"{STREAM}/ride-predictions-dev"],
        "kinesis:ListShards": [f"{STREAM}/ride-predictions-dev"],
        "kinesis:PutRecords": [f"{STREAM}/ride-events-dev"],
        "kms:Decrypt": [KEY],
        "kms:GenerateDataKey": [KEY],
        "lambda:GetFunctionConfiguration": [FUNCTION, f"{FUNCTION}:live"],
        "s3:GetObject": [UPLOADED, f"{BUCKET}/channels/stable.json", f"{MODEL}/golden.json", f"{MODEL}/manifest.json"],
        "s3:ListBucket": [BUCKET, RELEASES],
        "s3:PutObject": [UPLOADED],
    },
}
"""What each job's steps call, and on what."""

CONTEXT = {
    "aws:ResourceAccount": ACCOUNT,
    "aws:ResourceTag/environment": "dev",
    "aws:ResourceTag/project": "ridecast",
    "cloudformation:RoleArn": DEV["ExecutionRole.Arn"],
    "iam:PassedToService": "cloudformation.amazonaws.com",
    "kms:ViaService": f"kinesis.{REGION}.amazonaws.com",
}


@pytest.mark.parametrize("role", CALLS)
def test_role_may_make_each_call_of_its_job(role: str) -> None:
    documents = [resolved(document(bootstrap_resources()[role]), DEV)]
    wanted = [(action, arn) for action, arns in CALLS[role].items() for arn in arns]

    assert [one for one in wanted if not is_allowed(documents, *one, CONTEXT)] == []


@pytest.mark.parametrize("role", CALLS)
def test_role_may_make_no_other(role: str) -> None:
    assert actions(bootstrap_resources()[role]) == CALLS[role].keys()


@pytest.mark.parametrize("role", CALLS)
def test_role_of_a_job_reaches_no_other_stack(role: str) -> None:
    documents = [resolved(document(bootstrap_resources()[role]), DEV)]
    others = [
        (action, arn.replace("ridecast-dev", "ridecast-prod"))
        for action in CALLS[role]
        for arn in (STACK, BUCKET, FUNCTION)
    ]

    assert [one for one in others if is_allowed(documents, *one, CONTEXT)] == []
