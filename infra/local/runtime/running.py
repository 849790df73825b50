"""Run a deployed function: from its sources in this process, or as its built package in AWS's own runtime."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig
from infra.local.runtime.in_process import Runtime, running_in_process
from infra.stack.package import build_for_host, source_of

RuntimeName = Literal["in-process", "emulator"]


def running(
    function: FunctionConfig, log_path: Path, runtime: RuntimeName = "in-process"
) -> AbstractContextManager[Runtime]:
    """Run any function of the template inside the `with` block. Functions may run at the same time.

    Args:
        function: As the stack has it.
        log_path: Its output is appended here.
        runtime: The emulator needs the function's package, which is built now unless it was before.

    Raises:
        UserError: The package can't be built, or, on entering, there is no emulator.
    """
    if runtime == "in-process":
        return running_in_process(function, log_path)
    package = build_for_host(source_of(function.handler)).folder
    return EmulatedRuntime(replace(function, package=package), log_path)
