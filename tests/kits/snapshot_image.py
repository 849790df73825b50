"""A runtime that is the image of a snapshot: each restore makes a copy of its process, memory and all.

Stands for `python -m awslambdaric`. Lambda copies a machine, this forks: what is equal in all copies of a snapshot is
equal in these, down to the state of `random`.
"""

import os
import random
import sys
from collections.abc import Callable
from typing import Any

from lambda_function.handler import lambda_handler as ours


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Handles a batch, and tells what this copy's next random number is."""
    return {**ours(event, context), "random": random.random()}  # noqa: S311 - not for secrets, but for pauses


def copy_at_each(restore_next: Callable[[], None]) -> None:
    """Waits for one restore after the other, for ever; returns in the copies alone."""
    state = random.getstate()
    while True:
        restore_next()
        if os.fork() == 0:
            random.setstate(state)  # a fork seeds it anew, which nobody does for a snapshot
            return


def main() -> None:
    """Starts AWS's runtime client, its wait for a restore aside."""
    from awslambdaric.bootstrap import run  # type: ignore[import-untyped] # noqa: PLC0415 - it is for Linux alone
    from awslambdaric.lambda_config import LambdaConfigProvider  # type: ignore[import-untyped] # noqa: PLC0415
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient  # type: ignore[import-untyped] # noqa: PLC0415

    config = LambdaConfigProvider(sys.argv)
    client = LambdaRuntimeClient(config.api_address, config.use_thread_polling)
    restore_next = client.restore_next
    client.restore_next = lambda: copy_at_each(restore_next)
    run(config.handler, client)


if __name__ == "__main__":
    main()
