"""Where a mapping's batches end: the function, or the failure destination; both are counted here."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.local.event_source.batcher import Outcome
from infra.local.event_source.config import Condition, MappingStats
from infra.local.event_source.failures import FailureDestination, GivenUp
from infra.local.event_source.lambda_event import LambdaRecord, count_done

logger = logging.getLogger(__name__)


class Delivery:
    """Runs the function on batches, and puts aside what is given up.

    Args:
        invoke: Runs the function on an event: returns its response, raises if it failed.
        destination: Takes what is given up; without one, that is dropped, as Lambda does.
        wall_clock: Unix time in seconds.
        new_id: Makes the unique part of names.
        stats: Counted on.
        reads_response: Whether the function's response says what failed.
    """

    def __init__(
        self,
        invoke: Callable[[dict[str, Any]], object],
        destination: FailureDestination | None,
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
        stats: MappingStats,
        *,
        reads_response: bool,
    ) -> None:
        self._invoke = invoke
        self._destination = destination
        self._wall_clock = wall_clock
        self._new_id = new_id
        self._stats = stats
        self._reads_response = reads_response

    def deliver(self, batch: list[LambdaRecord], n_redelivered: int) -> Outcome:
        """Hands a batch to the function; `n_redelivered` of its records had been there before."""
        outcome = self._invoke_on(batch)
        self._stats.n_invocations += 1
        self._stats.n_delivered += len(batch)
        self._stats.n_redelivered += n_redelivered
        self._stats.n_done += outcome.n_done
        self._stats.n_failures += outcome.n_done < len(batch)
        return outcome

    def prepare_giving_up(
        self, records: list[LambdaRecord], condition: Condition, n_invocations: int, *, raised: bool
    ) -> Callable[[], bool]:
        """Makes an attempt at giving records up, to be called until it says that they are settled."""
        now_s, object_id, request_id = self._wall_clock(), self._new_id(), self._new_id()
        given_up = GivenUp(records, condition, n_invocations, raised, now_s, object_id, request_id)
        return partial(self._give_up, given_up)

    def note_bisect(self) -> None:
        """Notes that a batch was cut in two."""
        self._stats.n_bisects += 1

    def _invoke_on(self, batch: list[LambdaRecord]) -> Outcome:
        try:
            response = self._invoke({"Records": batch})
        except Exception as error:
            # Whatever a function raises, Lambda brings the batch again.
            self._note(error)
            logger.warning("%d records from %s on are not done", len(batch), batch[0]["eventID"], exc_info=True)
            return Outcome(0, raised=True)
        return Outcome(count_done(response, batch) if self._reads_response else len(batch), raised=False)

    def _give_up(self, given_up: GivenUp) -> bool:
        n_records, first = len(given_up.records), given_up.records[0]["eventID"]
        if self._destination is None:
            self._stats.n_dropped += n_records
            logger.error("%d records from %s on are lost: %s", n_records, first, given_up.condition)
            return True
        try:
            self._destination.store(given_up)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            self._note(error)
            logger.warning("%d records from %s on can't be put aside yet: %s", n_records, first, error)
            return False
        self._stats.n_given_up += n_records
        logger.warning("%d records from %s on are put aside: %s", n_records, first, given_up.condition)
        return True

    def _note(self, error: Exception) -> None:
        self._stats.last_error = f"{type(error).__name__}: {error}"
