"""A runtime that acts as a snapshot: each restore copies its process with its memory.

It replaces `python -m awslambdaric`. Lambda copies a machine, this forks: all state that is equal in all copies of a
snapshot is equal here too, even the state of `random`.
"""

import os
import random
import sys
from collections.abc import Callable
from typing import Any

from lambda_function.handler import lambda_handler as ours


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Process a batch, and add this copy's next random number to the response."""
    return {**ours(event, context), "random": random.random()}  # noqa: S311 - not for secrets


def copy_at_each(restore_next: Callable[[], None]) -> None:
    """Wait for one restore after the other, forever; return only in the copies."""
    state = random.getstate()
    while True:
        restore_next()
        if os.fork() == 0:
            random.setstate(state)  # a fork seeds it again, a snapshot does not
            return


def main() -> None:
    """Start AWS's runtime client with `copy_at_each` as its wait for a restore."""
    from awslambdaric.bootstrap import run  # type: ignore[import-untyped] # noqa: PLC0415 - for Linux only
    from awslambdaric.lambda_config import LambdaConfigProvider  # type: ignore[import-untyped] # noqa: PLC0415
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient  # type: ignore[import-untyped] # noqa: PLC0415

    config = LambdaConfigProvider(sys.argv)
    client = LambdaRuntimeClient(config.api_address, config.use_thread_polling)
    restore_next = client.restore_next
    client.restore_next = lambda: copy_at_each(restore_next)
    run(config.handler, client)


if __name__ == "__main__":
    main()
