"""What is deployed, remembered before a change and put back after it, where the new stack's smoke test fails.

CloudFormation rolls back by itself what fails while it is at work. Once it has ended well, it has no way back but
another change set: of the template, parameters and tags from before.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import WaiterError

from infra.cicd.change_set import execute, find_stack
from infra.errors import ChangeSetError

_WITHOUT_DELAY = {"CodeRollout": "AllAtOnce", "RolloutAlarms": "Ignored"}
"""What is put back has served before: it takes over at once, and no alarm that the bad release set off takes it back.
samconfig.toml says the usual values, so that the next deployment has them again."""


class Deployed(msgspec.Struct, frozen=True):
    """A stack as it is deployed.

    Attributes:
        template: As it was sent: the zips that it names lie in the artefact bucket, under names made of their digests.
        role_arn: What CloudFormation acts as, or "".
    """

    stack_name: str
    template: str
    parameters: dict[str, str]
    tags: dict[str, str]
    capabilities: list[str]
    role_arn: str = ""

    def store(self, path: Path) -> None:
        """Writes it to a file."""
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> "Deployed":
        """Reads it from a file."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


def remember(cloudformation: Any, stack_name: str) -> Deployed | None:
    """Returns a stack as it is; None where there is none yet, or none that has ever been deployed in full.

    Raises:
        ClientError: CloudFormation refused.
    """
    stack = find_stack(cloudformation, stack_name)
    if stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS":  # a first change set, not carried out yet
        return None
    template = cloudformation.get_template(StackName=stack_name, TemplateStage="Original")["TemplateBody"]
    return Deployed(
        stack_name=stack_name,
        template=template if isinstance(template, str) else msgspec.json.encode(template).decode(),
        parameters={one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", ())},
        tags={one["Key"]: one["Value"] for one in stack.get("Tags", ())},
        capabilities=list(stack.get("Capabilities", ())),
        role_arn=stack.get("RoleARN", ""),
    )


def put_back(
    cloudformation: Any, s3: Any, bucket: str, deployed: Deployed, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Deploys what was remembered, over whatever the stack is now: all at once, whatever alarms say.

    Args:
        cloudformation: A boto3 client.
        s3: A boto3 client.
        bucket: The artefact bucket: a template of over 51,200 bytes must lie in one.
        deployed: What `remember` returned.
        sleep: Waits for seconds.

    Returns:
        The stack's status, ``UPDATE_COMPLETE``.

    Raises:
        ChangeSetError: The change set could not be made or carried out.
    """
    name = f"undo-{hashlib.sha256(deployed.template.encode()).hexdigest()[:12]}-{time.time_ns()}"
    key = f"{deployed.stack_name}/{name}.template"
    s3.put_object(Bucket=bucket, Key=key, Body=deployed.template.encode(), ContentType="text/plain")
    parameters = {**deployed.parameters, **{n: v for n, v in _WITHOUT_DELAY.items() if n in deployed.parameters}}
    role = {"RoleARN": deployed.role_arn} if deployed.role_arn else {}
    cloudformation.create_change_set(
        StackName=deployed.stack_name,
        ChangeSetName=name,
        ChangeSetType="UPDATE",
        TemplateURL=f"{s3.meta.endpoint_url}/{bucket}/{key}",
        Parameters=[{"ParameterKey": one, "ParameterValue": value} for one, value in parameters.items()],
        Tags=[{"Key": one, "Value": value} for one, value in deployed.tags.items()],
        Capabilities=deployed.capabilities,
        **role,
    )
    try:
        waiter = cloudformation.get_waiter("change_set_create_complete")
        waiter.wait(ChangeSetName=name, StackName=deployed.stack_name)
    except WaiterError as error:
        raise ChangeSetError(deployed.stack_name, "not put back", [str(error)]) from error
    return execute(cloudformation, deployed.stack_name, name, sleep)
