"""Read a stack part by part, and note what AWS does not have, denies or does not answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from yaml import YAMLError

from infra.operate.doctor.facts import Finding
from infra.operate.doctor.wanted import Wanted, read_wanted
from infra.stack.describe import DescribedStack, Resource, list_resources
from training.errors import UserError

_DENIED = {"AccessDenied", "AccessDeniedException", "403"}
"""Error codes of a missing permission; the last is that of an answer with nothing but a status."""

_NOT_FOUND = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
}
"""Error codes of services that do not have what the request names."""

T = TypeVar("T")
Otherwise = TypeVar("Otherwise")


@dataclass(slots=True)
class Reading:
    """Reads the parts of one stack. A part that AWS does not give is noted, and the rest continues."""

    client: Callable[[str], Any]  # makes a boto3 client of a service
    stack: DescribedStack
    window: tuple[datetime, datetime]  # of the metrics: its start and end
    missing: dict[str, Finding] = field(default_factory=dict)  # what AWS does not find, by part
    unread: dict[str, str] = field(default_factory=dict)  # why a part was not looked at
    denied: set[str] = field(default_factory=set)  # parts for which a permission is missing
    resources: tuple[Resource, ...] = field(init=False)
    _wanted: Wanted | None = field(init=False)

    def __post_init__(self) -> None:
        cloudformation = self.client("cloudformation")
        self.resources = self.part("resources", (), lambda: list_resources(cloudformation, self.stack.name))
        self._wanted = self.part("template", None, lambda: read_wanted(cloudformation, self.stack, self.resources))

    @property
    def names(self) -> dict[str, str]:
        """Physical names by logical names."""
        return {one.logical_name: one.physical_name for one in self.resources}

    def wanted(self, logical_name: str) -> dict[str, Any]:
        """Return a resource's properties in the deployed template; empty if it could not be read."""
        return self._wanted.properties(logical_name) if self._wanted else {}

    def part(
        self, name: str, otherwise: Otherwise, probe: Callable[[], T], missing: Finding | None = None
    ) -> T | Otherwise:
        """Return what a probe returns; `otherwise` if AWS does not give it.

        Args:
            name: The part.
            otherwise: Returned if the part can't be read.
            probe: Reads the part.
            missing: The finding if AWS does not have what the probe reads; None for what always exists.
        """
        try:
            return probe()
        except (ClientError, BotoCoreError, UserError, ResponseParserError, YAMLError) as error:
            cause = error.__cause__ if isinstance(error, UserError) else error
            if missing and is_not_found(cause):
                self.missing[name] = missing
                return otherwise
            self.unread[name] = " ".join(str(error).split())
            if is_denied(cause):
                self.denied.add(name)
        return otherwise


def is_denied(error: BaseException | None) -> bool:
    """Return whether an error of AWS means that the caller lacks a permission."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _DENIED


def is_not_found(error: BaseException | None) -> bool:
    """Return whether an error of AWS means that there is no such resource."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _NOT_FOUND
