"""`ridecast outcomes join` and `audit`: labelled rides of hours, and whether every ride is accounted for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.cli.options import BucketAws, Json, expand_options, time_options
from infra.cli.output import (
    counted,
    interrupted,
    minutes_text,
    show_result,
    write_facts,
    write_json,
    write_lines,
    write_table,
)

if TYPE_CHECKING:
    from training.monitoring.join.evidence import Finding
    from training.monitoring.summary import HourSummary
    from training.registry.bucket import Bucket

_DEFAULT_SPAN = "24h"
_EARLY = (
    "judged early: rides that take long and outcomes that come late are missing, so the errors are not those of all"
    " rides; the scheduled join judges these hours again"
)


@dataclass(frozen=True)
class HoursAws(BucketAws):
    """The AWS account, the bucket and what the deployed stack joins with."""

    outcome_delay: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="MINUTES",
            help="Minutes from the end of a ride in which its outcome may arrive. (default: the stack's, or 120)",
        ),
    ] = None

    @property
    def delay_minutes(self) -> int:
        """How long outcomes are waited for."""
        return int(self.parameter("OutcomeDelayMinutes") or 120) if self.outcome_delay is None else self.outcome_delay


@expand_options
def join_command(
    aws: HoursAws,
    since: Annotated[
        str, typer.Option("--from", help="First hour of arrival, as 2026-08-01T09 in UTC; or 6h for six hours ago.")
    ],
    until: Annotated[
        str | None, typer.Option("--to", help="End of the last hour. (default: the last hour that is complete)")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Also join hours whose outcomes are still waited for; they are judged early.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Join hours of ride events with their predictions and outcomes, as the scheduled function does.

    Stores labelled rides and a summary of each hour in the bucket, in place of older ones. An hour is complete when
    outcomes of its longest rides have had time to arrive: 60 minutes and --outcome-delay after its end. Prints a line
    an hour: rides, labelled rides, RMSE, and the three counts that must be 0. Ctrl-C ends it; joined hours stay.

    Example: ridecast outcomes join --from 2026-08-01T00 --to 2026-08-02T00 --stack ridecast
    """
    begin, end = time_options(since, until, ("--from", "--to"))

    from infra.operate.joining import hours_to_judge, passes
    from training.monitoring.hours import EARLY
    from training.monitoring.join.join import join_hour
    from training.monitoring.join.options import JoinOptions
    from training.monitoring.join.skew import stored_models

    bucket, moment = aws.open_named_bucket(), datetime.now(UTC)
    options = JoinOptions(
        outcome_delay_minutes=aws.delay_minutes,
        channel=aws.parameter("ModelChannel") or "stable",
        ride_stream=aws.optional_output("RideEventsStream") or "ride-events",
        outcome_stream=aws.optional_output("RideOutcomesStream") or "ride-outcomes",
    )
    delay = options.outcome_delay_minutes
    hours = hours_to_judge(begin or moment, moment if now and end is None else end, moment, delay)
    due = passes(hours, moment, delay, may_be_early=now)
    load = stored_models(bucket, aws.signer(None))
    joined: list[HourSummary] = []
    try:
        with counted("joining hours", due, len(due)) as each:
            joined.extend(join_hour(bucket, one.hour, options, one.pass_number, load) for one in each)
    except KeyboardInterrupt:
        raise interrupted(f"{len(joined)} of {len(due)} hours are joined", "join the rest with --from") from None
    is_early = any(one.pass_number == EARLY for one in due)
    if as_json:
        write_json({"hours": _plain(joined), "judged_early": is_early})
        return
    _write_hours(joined, bucket)
    if is_early:
        write_lines([_EARLY])


@expand_options
def audit_command(
    aws: HoursAws,
    since: Annotated[
        str, typer.Option("--from", help="First hour of arrival, as 2026-08-01T09 in UTC; or 6h for six hours ago.")
    ] = _DEFAULT_SPAN,
    until: Annotated[str | None, typer.Option("--to", help="End of the last hour. (default: now)")] = None,
    show: Annotated[
        Literal["lost", "conflicting", "skew"] | None, typer.Option(help="Print the records behind one of the counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether every ride of some hours is accounted for. Joins nothing: reads the summaries of joined hours.

    Lost: a ride with neither a prediction nor a reject. Conflicting: a ride with two different predictions. Skew: a
    prediction that its model version does not give any more. Prints the sums of all hours, the hours since the first
    archived ride that should be joined and are not, those whose outcomes are still waited for, and with --show the
    records. Exits with 1 if one of the three is not 0.

    Example: ridecast outcomes audit --from 24h --show lost --stack ridecast
    """
    begin, end = time_options(since, until, ("--from", "--to"))

    from infra.operate.joining import FAULTS, first_archived_hour, hours_to_judge, totals
    from training.monitoring.hours import horizon
    from training.monitoring.join.evidence import audit_records
    from training.monitoring.join.skew import stored_models
    from training.monitoring.summary import load_summary

    bucket, moment = aws.open_named_bucket(), datetime.now(UTC)
    delay = aws.delay_minutes
    hours = hours_to_judge(begin or moment, end or moment, moment, delay)
    with counted("reading summaries", bucket.each(lambda hour: load_summary(bucket, hour), hours), len(hours)) as each:
        found = dict(zip(hours, each, strict=True))
    summaries = [summary for summary in found.values() if summary]
    missing = [hour for hour, summary in found.items() if summary is None]
    first = first_archived_hour(bucket) if missing else None
    missing = [hour for hour in missing if first is None or hour >= first]
    sums = totals(summaries)
    findings: list[Finding] = []
    if show:
        stream = aws.optional_output("RideEventsStream") or "ride-events"
        findings.extend(audit_records(bucket, hours, show, stream, stored_models(bucket, aws.signer(None))))
    result = {
        "hours": len(summaries),
        **{name.removeprefix("n_"): n for name, n in sums.items()},
        "not_joined": [str(hour) for hour in missing if horizon(hour, delay) <= moment],
        "not_complete_yet": [str(hour) for hour in missing if horizon(hour, delay) > moment],
        "damaged_objects": {one.key: one.problem for summary in summaries for one in summary.damaged_objects},
    }
    if as_json:
        write_json({**result, **({"records": [_finding(one) for one in findings]} if show else {})})
    else:
        _show_audit(result, findings)
        if missing and first is None:
            write_lines(["no ride is archived: the archive has a ride about a minute after it is sent"])
    if any(sums[name] for name in FAULTS):
        raise typer.Exit(1)


def _plain(summaries: Sequence["HourSummary"]) -> Any:
    import msgspec

    return msgspec.to_builtins(summaries)


def _write_hours(summaries: Sequence["HourSummary"], bucket: "Bucket") -> None:
    from training.errors import bucket_address

    columns = ("hour", "rides", "labelled", "without outcome", "RMSE", "lost", "conflicting", "skew")
    rows = (
        (
            one.hour,
            *(f"{n:,}" for n in (one.n_ride_events, one.n_labelled, one.n_without_outcome)),
            minutes_text(one.rmse_minutes),
            *(f"{n:,}" for n in (one.n_lost, one.n_conflicting, one.n_skewed)),
        )
        for one in summaries
    )
    empty = "no hour of this time is complete: outcomes of its rides may still arrive; --now joins it all the same"
    write_table(f"Hours joined in {bucket_address(bucket.name)}", columns, rows, set(columns[1:]), empty)
    damaged = (one for summary in summaries for one in summary.damaged_objects)
    write_lines(f"left out, damaged: {one.key}: {one.problem}" for one in damaged)


def _finding(one: "Finding") -> dict[str, Any]:
    return {
        "hour": str(one.hour),
        "event_id": one.event_id,
        "ride_id": one.ride_id,
        "model_version": one.model_version,
        "data": _text(one.data),
        "archived": [_text(data) for data in one.archived],
        "expected": _text(one.expected),
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _show_audit(result: dict[str, Any], findings: Sequence["Finding"]) -> None:
    from infra.operate.joining import hour_spans
    from training.monitoring.hours import Hour

    spans = {
        name: hour_spans([Hour.parse(text) for text in result[name]]) for name in ("not_joined", "not_complete_yet")
    }
    shown = {
        name.replace("_", " "): value for name, value in (result | spans).items() if value or isinstance(value, int)
    }
    damaged = result["damaged_objects"]
    show_result("Audit", result, as_json=False, shown={**shown, "damaged objects": len(damaged)})
    write_lines(f"damaged: {key}: {problem}" for key, problem in damaged.items())
    for one in findings:
        write_facts("", {name.replace("_", " "): _shown(value) for name, value in _finding(one).items() if value})


def _shown(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "\n".join(value)
