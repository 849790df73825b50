"""The data contract: the rules that months must pass before a model is fitted on them.

Each threshold is well outside the values of 38 real months: eight whole green ones of 2021 to 2023, with 62,495 to
78,537 rows, and samples of 10,000 yellow rides a month from 2018-01 to 2020-06. The contract catches a file that is cut
off, doubled, in other units or of another service, not a month that is a little odd. `training.data.tlc_file` checks
that a file is Parquet and has the right columns and types.
"""

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.data.months import Month
from training.data.rides import Source
from training.errors import UserError

MIN_ROWS = 5_000
"""Half a sample. TLC's smallest months, green in 2020-04 and since 2024, have over 30,000 rows. Of a month in part, the
rows are counted up to a whole month's."""

MIN_SHARE_OF_MEDIAN_ROWS = 0.5
"""Of the months given. Seasons change a month by a quarter; only the spring of 2020 halved one."""

MIN_SHARE_KEPT = 0.9
"""Measured: 0.948 to 0.986."""

MEDIAN_DURATION_MINUTES = (5.0, 25.0)
"""Measured: 7.6 in the empty streets of 2020-04 to 14.7."""

MEDIAN_DISTANCE_MILES = (1.0, 5.0)
"""Of the rides that have a distance. Measured: 1.53 to 2.70."""

MAX_SHARE_WITHOUT_DISTANCE = 0.1
"""Measured: 0.000 to 0.036."""

MAX_SHARE_DUPLICATES = 0.01
"""Measured: 0.0000 to 0.0015. A file appended to itself has 0.5."""

_N_BREACHES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """A month that breaks a rule."""

    rule: str  # one of RULES
    month: Month
    seen: str  # the month's value, as in `312 rows`
    wanted: str  # the rule's limit, as in `at least 5,000`

    def __str__(self) -> str:
        return f"{self.month} breaks {self.rule}: it has {self.seen}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the contract."""

    wanted: str  # the limit in words
    # Returns a month's value in words if it breaks the rule, else None. The second argument is the median number of
    # rows a month of all months that are checked together.
    breach: Callable[[Source, float], str | None]


class ContractError(UserError):
    """Months break rules that are not allowed to be broken."""


def check_contract(sources: Sequence[Source], allow: Collection[str] = ()) -> tuple[Finding, ...]:
    """Check at least one month, and return the breaches of the rules in `allow`, by month, in the order of RULES.

    Months for validation and test must be among those checked.

    Raises:
        ContractError: A month breaks a rule that is not allowed. The message names the months and rules.
    """
    median_rows = statistics.median(map(_rows_a_month, sources))
    findings = tuple(
        Finding(name, source.month, seen, rule.wanted)
        for source in sorted(sources, key=lambda source: source.month)
        for name, rule in RULES.items()
        if (seen := rule.breach(source, median_rows))
    )
    if breaches := [finding for finding in findings if finding.rule not in allow]:
        shown = "; ".join(str(breach) for breach in breaches[:_N_BREACHES_SHOWN])
        n_more = len(breaches) - _N_BREACHES_SHOWN
        options = " ".join(f"--allow {rule}" for rule in dict.fromkeys(breach.rule for breach in breaches))
        raise ContractError(
            shown + (f"; and {n_more} more" if n_more > 0 else ""),
            "take TLC's whole month in place of a file that is a sample or cut off; if the city itself changed, as in "
            f"2020-04, allow it with {options}",
        )
    return findings


def check_rule_names(names: Iterable[str]) -> None:
    """Raise UserError if the contract has no rule of one of these names."""
    for name in names:
        if name not in RULES:
            raise UserError(f"the data contract has no rule {name!r}", f"choose among {', '.join(RULES)}")


def _rows_a_month(source: Source) -> float:
    """Return the rows that the whole month would have; of a whole month, those that it has."""
    return source.n_rows / source.month.share


def _few_rows(source: Source, _: float) -> str | None:
    return f"{source.n_rows:,} rows" if _rows_a_month(source) < MIN_ROWS else None


def _far_below_median(source: Source, median_rows: float) -> str | None:
    is_far_below = _rows_a_month(source) < MIN_SHARE_OF_MEDIAN_ROWS * median_rows
    return f"{source.n_rows:,} rows beside a median of {median_rows:,.0f}" if is_far_below else None


def _few_kept(source: Source, _: float) -> str | None:
    if source.n_kept >= MIN_SHARE_KEPT * source.n_rows:
        return None
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in source.dropped.items() if n)
    return f"{source.n_kept / source.n_rows:.1%} of its rows left after cleaning ({reasons})"


def _odd_durations(source: Source, _: float) -> str | None:
    minutes = source.facts.median_duration_minutes
    low, high = MEDIAN_DURATION_MINUTES
    return None if low <= minutes <= high else f"a median of {minutes:.1f} minutes"


def _odd_distances(source: Source, _: float) -> str | None:
    miles = source.facts.median_distance_miles
    low, high = MEDIAN_DISTANCE_MILES
    return None if low <= miles <= high else f"a median of {miles:.2f} miles"


def _without_distance(source: Source, _: float) -> str | None:
    share = source.facts.n_without_distance / max(source.n_kept, 1)
    return f"{share:.1%} of its rides without a distance" if share > MAX_SHARE_WITHOUT_DISTANCE else None


def _days_without_rides(source: Source, _: float) -> str | None:
    rides_by_day = enumerate(source.facts.n_rides_by_day, start=source.month.first_day)
    days = [day for day, n_rides in rides_by_day if not n_rides]
    if not days:
        return None
    shown = ", ".join(str(day) for day in days[:3]) + (", ..." if days[3:] else "")
    return f"no ride on {len(days)} of its days (day {shown})"


def _duplicates(source: Source, _: float) -> str | None:
    share = source.facts.n_duplicates / max(source.n_kept, 1)
    return f"{share:.1%} of its rides twice" if share > MAX_SHARE_DUPLICATES else None


RULES: Mapping[str, Rule] = {
    "rows": Rule(f"at least {MIN_ROWS:,}", _few_rows),
    "rows-of-median": Rule(f"at least {MIN_SHARE_OF_MEDIAN_ROWS:.0%} of the median month's", _far_below_median),
    "kept": Rule(f"at least {MIN_SHARE_KEPT:.0%}", _few_kept),
    "duration": Rule("{:g} to {:g} minutes".format(*MEDIAN_DURATION_MINUTES), _odd_durations),
    "distance": Rule("{:g} to {:g} miles".format(*MEDIAN_DISTANCE_MILES), _odd_distances),
    "missing-distance": Rule(f"at most {MAX_SHARE_WITHOUT_DISTANCE:.0%}", _without_distance),
    "days": Rule("rides on every day from the first to the last", _days_without_rides),
    "duplicates": Rule(f"at most {MAX_SHARE_DUPLICATES:.0%}", _duplicates),
}
"""The rules, by the name that `--allow` takes."""
