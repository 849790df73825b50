"""CodeDeploy's canary of five minutes, a tenth of the batches for the new version; the template's alarms watch it."""

from collections.abc import Callable
from itertools import count
from typing import Any

from infra.local.runtime.in_process import FunctionError
from tests.kits.alarms import alarms_of, states
from tests.kits.template import stack

Function = Callable[[dict[str, Any]], Any]

MINUTES, BATCHES_A_MINUTE, TENTH = 5, 10, 10
ALARMS = ("FunctionErrorsAlarm", "RetriedRecordsAlarm")


def alarms_of_a_canary(old: Function, new: Function, batch: Callable[[int], dict[str, Any]]) -> set[str]:
    """Return the alarms that sound before all batches go to the new version; each of them rolls it back.

    Args:
        old: The version that has the traffic.
        new: The version on trial.
        batch: Makes the event of the n-th batch.
    """
    errors, retried = [0.0] * MINUTES, [0.0] * MINUTES
    numbers = count()
    for minute in range(MINUTES):
        for _ in range(BATCHES_A_MINUTE):
            number = next(numbers)
            event = batch(number)
            try:
                answer = (new if number % TENTH == 0 else old)(event)
            except FunctionError:
                errors[minute] += 1
            else:
                retried[minute] += len(event["Records"]) if answer["batchItemFailures"] else 0
    series = dict(zip(ALARMS, (errors, retried), strict=True))
    return {name for name, values in series.items() if "ALARM" in states(stack(), alarms_of(stack())[name], values)}
