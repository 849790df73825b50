"""The template's stack on a local AWS, created, updated and deleted as `sam deploy` does, but without building code."""

import io
import json
import zipfile
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from infra.local.aws import LocalAws
from infra.local.stack import Stack
from infra.stack.describe import DescribedStack, describe_stack, physical_names
from infra.stack.translate import transform

CODE = {"S3Bucket": "packaged", "S3Key": "predictor.zip"}
"""The code's address in the translated template."""


@cache
def _translated() -> dict[str, Any]:
    return transform()


def template() -> dict[str, Any]:
    """Return a copy of the repository's template as plain CloudFormation, which the caller may change."""
    return deepcopy(_translated())


def zip_bytes(text: str) -> bytes:
    """Return a package that contains a text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("module.py", text)
    return buffer.getvalue()


class LocalStack:
    """A stack on a local AWS, by its name."""

    def __init__(self, aws: LocalAws, name: str) -> None:
        self.aws = aws
        self.name = name
        self._cloudformation = aws.client("cloudformation", n_attempts=1)

    def described(self) -> DescribedStack:
        """Return the answer of DescribeStacks."""
        return describe_stack(self._cloudformation, self.name)

    def outputs(self) -> Mapping[str, str]:
        """Return the outputs by name."""
        return self.described().outputs

    def names(self) -> dict[str, str]:
        """Return the physical names by logical names."""
        return physical_names(self._cloudformation, self.name)


class TemplateStack(LocalStack):
    """A stack that is changed by change sets."""

    def __init__(self, aws: LocalAws, name: str = "ridecast") -> None:
        super().__init__(aws, name)
        self._s3 = aws.client("s3")
        for bucket in (CODE["S3Bucket"], "templates"):
            self._s3.create_bucket(Bucket=bucket)
        self.upload_code("first")
        self._n_changes = 0

    def upload_code(self, text: str, key: str = CODE["S3Key"]) -> None:
        """Store a package."""
        self._s3.put_object(Bucket=CODE["S3Bucket"], Key=key, Body=zip_bytes(text))

    def change(self, wanted: Mapping[str, Any] | None = None, **parameters: object) -> str:
        """Create or update the stack, and return its status."""
        self._s3.put_object(Bucket="templates", Key="template", Body=json.dumps(wanted or template()).encode())
        self._n_changes += 1
        made = self._cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"change-{self._n_changes}",
            ChangeSetType="CREATE" if self._n_changes == 1 else "UPDATE",
            TemplateURL=f"{self.aws.endpoint_url}/templates/template",
            Parameters=[{"ParameterKey": name, "ParameterValue": str(value)} for name, value in parameters.items()],
        )
        described = self._cloudformation.describe_change_set(ChangeSetName=made["Id"])
        if described["Status"] == "FAILED":
            return str(described["StatusReason"])
        self._cloudformation.execute_change_set(ChangeSetName=made["Id"])
        return self.described().status

    def events(self) -> list[tuple[str, str]]:
        """Return logical name and status of every event, the oldest first."""
        listed = self._cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return [(one["LogicalResourceId"], one["ResourceStatus"]) for one in reversed(listed)]

    def delete(self) -> None:
        """Delete the stack."""
        self._cloudformation.delete_stack(StackName=self.name)

    def mapping(self, **parameters: object) -> Any:
        """Return the configuration of the event source mapping."""
        return Stack(parameters=parameters).event_source_mapping(self.names())
