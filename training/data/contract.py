"""The data contract: what months have to look like before anything is fitted on them.

Each threshold stands well outside what was seen in 38 real months: eight whole green ones of 2021 to 2023, with 62,495
to 78,537 rows, and samples of 10,000 yellow rides a month from 2018-01 to 2020-06. It catches a file that is cut off,
doubled, in other units or of another service, not a month that is a little odd. What a file has to be in the first
place (Parquet, its columns and their types) is checked where it is read, in `training.data.tlc_file`.
"""

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from training.data.months import Month
from training.data.rides import Source
from training.errors import UserError

MIN_ROWS = 5_000
"""Half a sample. TLC's smallest months, green in 2020-04 and since 2024, have over 30,000 rows."""

MIN_SHARE_OF_MEDIAN_ROWS = 0.5
"""Of the months given. Seasons move a month by a quarter; to halve it took the spring of 2020."""

MIN_SHARE_KEPT = 0.9
"""Seen: 0.948 to 0.986."""

MEDIAN_DURATION_MINUTES = (5.0, 25.0)
"""Seen: 7.6 in the empty streets of 2020-04 to 14.7."""

MEDIAN_DISTANCE_MILES = (1.0, 5.0)
"""Of the rides that have a distance. Seen: 1.53 to 2.70."""

MAX_SHARE_WITHOUT_DISTANCE = 0.1
"""Seen: 0.000 to 0.036."""

MAX_SHARE_DUPLICATES = 0.01
"""Seen: 0.0000 to 0.0015. A file appended to itself has 0.5."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A month that breaks a rule.

    Attributes:
        rule: One of RULES.
        month: Which month.
        seen: What the month has, as in ``312 rows``.
        wanted: What the rule asks for, as in ``at least 5,000 rows``.
    """

    rule: str
    month: Month
    seen: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.month} breaks {self.rule}: it has {self.seen}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What every month has to keep.

    Attributes:
        wanted: What the rule asks for, in words.
        broken_by: Says what breaks the rule in a month, or nothing.
    """

    wanted: str
    broken_by: Callable[["MonthInContext"], str | None]


@dataclass(frozen=True, slots=True)
class MonthInContext:
    """A month, and the median of the rows of all months that are checked with it."""

    source: Source
    median_rows: float


def check_contract(sources: Sequence[Source], allow: Collection[str] = ()) -> tuple[Finding, ...]:
    """Checks months before anything is fitted on them.

    Args:
        sources: The months, at least one, those for validation and test among them.
        allow: Names of RULES that a month may break.

    Returns:
        What was found and allowed, by month and then in the order of RULES: to be told with what is trained.

    Raises:
        UnknownRuleError: A name in `allow` is no rule.
        ContractError: A month breaks a rule that is not allowed; it tells every such month and rule.
    """
    unknown = sorted(set(allow) - set(RULES))
    if unknown:
        raise UnknownRuleError(unknown[0], tuple(RULES))
    findings = _find(sources)
    breaches = tuple(finding for finding in findings if finding.rule not in allow)
    if breaches:
        raise ContractError(breaches)
    return findings


def _find(sources: Sequence[Source]) -> tuple[Finding, ...]:
    median_rows = statistics.median(source.n_rows for source in sources)
    return tuple(
        Finding(name, source.month, seen, rule.wanted)
        for source in sorted(sources, key=lambda source: source.month)
        for name, rule in RULES.items()
        if (seen := rule.broken_by(MonthInContext(source, median_rows)))
    )


def _few_rows(month: MonthInContext) -> str | None:
    return f"{month.source.n_rows:,} rows" if month.source.n_rows < MIN_ROWS else None


def _far_below_median(month: MonthInContext) -> str | None:
    is_far_below = month.source.n_rows < MIN_SHARE_OF_MEDIAN_ROWS * month.median_rows
    return f"{month.source.n_rows:,} rows beside a median of {month.median_rows:,.0f}" if is_far_below else None


def _few_kept(month: MonthInContext) -> str | None:
    if month.source.n_kept >= MIN_SHARE_KEPT * month.source.n_rows:
        return None
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in month.source.dropped.items() if n)
    return f"{month.source.n_kept / month.source.n_rows:.1%} of its rows left after cleaning ({reasons})"


def _odd_durations(month: MonthInContext) -> str | None:
    minutes = month.source.facts.median_duration_minutes
    return None if _is_in(minutes, MEDIAN_DURATION_MINUTES) else f"a median of {minutes:.1f} minutes"


def _odd_distances(month: MonthInContext) -> str | None:
    miles = month.source.facts.median_distance_miles
    return None if _is_in(miles, MEDIAN_DISTANCE_MILES) else f"a median of {miles:.2f} miles"


def _without_distance(month: MonthInContext) -> str | None:
    share = month.source.facts.n_without_distance / max(month.source.n_kept, 1)
    return f"{share:.1%} of its rides without a distance" if share > MAX_SHARE_WITHOUT_DISTANCE else None


def _days_without_rides(month: MonthInContext) -> str | None:
    days = [day for day, n_rides in enumerate(month.source.facts.n_rides_by_day, start=1) if not n_rides]
    if not days:
        return None
    shown = ", ".join(str(day) for day in days[:3]) + (", ..." if days[3:] else "")
    return f"no ride on {len(days)} of its days (day {shown})"


def _duplicates(month: MonthInContext) -> str | None:
    share = month.source.facts.n_duplicates / max(month.source.n_kept, 1)
    return f"{share:.1%} of its rides twice" if share > MAX_SHARE_DUPLICATES else None


def _is_in(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value <= span[1]


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
"""By the name that `--allow` takes: row counts, the share of rows kept, ranges, days covered, duplicates."""


_N_BREACHES_SHOWN = 3


class ContractError(UserError):
    """Months that are not what the data contract asks for.

    Attributes:
        breaches: What was found: which rule, which month, what was seen and what is wanted.
    """

    def __init__(self, breaches: Sequence[Finding]) -> None:
        self.breaches = tuple(breaches)
        rules = dict.fromkeys(breach.rule for breach in self.breaches)
        shown = "; ".join(str(breach) for breach in self.breaches[:_N_BREACHES_SHOWN])
        n_more = len(self.breaches) - _N_BREACHES_SHOWN
        more = f"; and {n_more} more" if n_more > 0 else ""
        allow = " ".join(f"--allow {rule}" for rule in rules)
        super().__init__(f"{shown}{more}: look at the files, or go on knowingly with {allow}")


class UnknownRuleError(UserError):
    """A rule that the data contract does not have."""

    def __init__(self, name: str, rules: Sequence[str]) -> None:
        self.name = name
        self.rules = tuple(rules)
        super().__init__(f"the data contract has no rule {name!r}: choose among {', '.join(rules)}")
