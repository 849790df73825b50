"""How commands reach an AWS, the real one or another: three options, which all that need an AWS share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from inspect import signature
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Aws:
    """An AWS, as the command line names it: each field is an option of every command `on_aws`."""

    endpoint_url: Annotated[
        str | None, typer.Option(help="Another AWS than the real one, as in http://127.0.0.1:5000.")
    ] = None
    profile: Annotated[str | None, typer.Option(help="AWS profile.")] = None
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None

    def client(self, service: str, region: str | None = None) -> Any:
        """Makes a client that gives up early: a person is waiting.

        Args:
            service: As boto3 names it.
            region: Another than the option's.
        """
        from botocore.config import Config

        retries = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
        try:
            return self._session.client(service, region, endpoint_url=self.endpoint_url, config=retries)
        except ValueError as error:  # botocore's way to say that this is no URL
            problem = f"{error}: write it as http://127.0.0.1:5000"
            raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.Session(profile_name=self.profile, region_name=self.region)


def on_aws(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of an `Aws`, just before its last one, and what they say as its argument `aws`.

    Typer makes the options of a command from its parameters, and has no groups of them to share. So it is shown the
    command's own, with the fields of `Aws` in the place of `aws`.
    """
    own = signature(command)
    options = signature(Aws).parameters
    *before, last = (one for name, one in own.parameters.items() if name != "aws")
    shown = [*before, *options.values(), last]

    @wraps(command)
    def run(*of_class: Any, **given: Any) -> None:
        aws = Aws(**{name: given.pop(name) for name in options})
        command(*of_class, aws=aws, **given)

    looked_at: Any = run  # Typer reads both, and mypy knows of neither
    looked_at.__signature__ = own.replace(parameters=shown)
    looked_at.__annotations__ = {one.name: one.annotation for one in shown}
    return run
