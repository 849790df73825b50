"""The configuration of a function, as Lambda has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from infra.local.aws import LocalAws

_SOURCE_TREE = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """The configuration of a function."""

    handler: str  # module and name, as in a template
    environment: Mapping[str, str]  # its variables, and AWS settings for its clients
    timeout_s: int  # whole seconds, as in Lambda
    memory_mb: int = 512  # passed to the function; not enforced
    name: str = "predictor"
    package: Path = _SOURCE_TREE  # the folder that would be zipped
    site_packages: Sequence[Path] = ()  # more importable folders, for dependencies that a built package would contain

    def with_variables(self, **variables: str) -> Self:
        """Return the configuration with other values of some environment variables."""
        return replace(self, environment={**self.environment, **variables})


def read_function(aws: LocalAws, name: str) -> FunctionConfig:
    """Read a deployed function's configuration. Its clients use the local AWS, and its package is the source tree.

    `name` is the function's name or ARN. An alias in it selects the alias's version.
    """
    found = aws.client("lambda").get_function_configuration(FunctionName=name)
    variables = found["Environment"]["Variables"]
    return FunctionConfig(
        handler=found["Handler"],
        environment={**variables, **aws.environment},
        timeout_s=int(found["Timeout"]),  # moto returns text if the value comes from a parameter
        memory_mb=int(found["MemorySize"]),
        name=found["FunctionName"],
    )
