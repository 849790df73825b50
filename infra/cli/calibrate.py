"""`ridecast models calibrate`: calibrate a channel's model by hand, stop its calibration, and start it again."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.channels import show_move
from infra.cli.options import ActivationDelay, BucketAws, Channel, Json, SigningKey, expand_options
from infra.cli.output import counted, write_facts, write_json, write_lines, write_table

if TYPE_CHECKING:
    from training.monitoring.calibration.by_hand import Calibrated
    from training.monitoring.hours import Hour
    from training.monitoring.summary import Sums


@expand_options
def calibrate_command(
    aws: BucketAws,
    since: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day in New York to learn from, as 2026-11-01.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day to learn from.")] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Serve the model without calibration, at once, until --resume or a promotion.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Calibrate again after --off; without days, with what is stored.")
    ] = False,
    channel: Channel = "stable",
    activation_delay: ActivationDelay = None,
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Calibrate a channel's model with the labelled rides of some days, or stop its calibration.

    A calibration multiplies predictions and widths of intervals by factors that recent outcomes ask for; the model
    stays. The scheduled monitor does this by itself, as often as CalibrationMode says. With --from and --to, this
    command learns from these days alone, stores the result and moves the channel. It prints the errors of the last
    day without calibration and with what the days before had taught. Exits with 1 if outcomes of the last day can't be
    trusted: then nothing moves.

    Example: ridecast models calibrate --from 2026-11-01 --to 2026-11-14 --stack ridecast
    """
    by_hand = since is not None or until is not None
    if off and (by_hand or resume):
        raise typer.BadParameter("cannot be used with --from, --to or --resume", param_hint="'--off'")
    if by_hand:
        days = _days(since, until)
    elif not off and not resume:
        raise typer.BadParameter("give --from and --to, --off or --resume", param_hint="'--from'")

    from training.monitoring.calibration.by_hand import calibrate_by_hand, resume_calibration
    from training.monitoring.calibration.calibrator import CalibratorOptions
    from training.registry.channels import stop_calibration
    from training.tracking.mirror import follow

    models = aws.open_bucket()
    if off:
        show_move(stop_calibration(models, channel), models.name, as_json=as_json)
    else:
        options = CalibratorOptions(aws.activation_delay_s(activation_delay), aws.signer(signing_key))
        if by_hand:
            done = calibrate_by_hand(models, channel, days, options=options, resume=resume, each=_with_bar)
            _show(done, models.name, as_json=as_json)
        else:
            show_move(resume_calibration(models, channel, options=options), models.name, as_json=as_json)
    follow(models)


def _with_bar(hours: "Sequence[Hour]") -> "Iterator[Hour]":
    with counted("learning from hours", hours, len(hours)) as items:
        yield from items


def _days(since: str | None, until: str | None) -> "tuple[Hour, Hour]":
    """Return the first hour of the first day and the one after the last day."""
    from lambda_function.core.pickup_time import NEW_YORK
    from training.monitoring.hours import Hour

    first, last = _day(since, "--from"), _day(until, "--to")
    if last < first:
        raise typer.BadParameter(f"{last} is before --from, {first}", param_hint="'--to'")
    begin, end = (Hour.of(datetime.combine(day, time(), NEW_YORK)) for day in (first, last + timedelta(days=1)))
    if end.start > datetime.now(UTC):
        raise typer.BadParameter(f"{last} is not over in New York", param_hint="'--to'")
    return begin, end


def _day(text: str | None, name: str) -> date:
    try:
        return date.fromisoformat(text or "")
    except ValueError as error:
        problem = f"{text!r} is no day: write it as 2026-11-01" if text else "is needed, as 2026-11-01"
        raise typer.BadParameter(problem, param_hint=f"'{name}'") from error


def _show(done: "Calibrated", bucket_name: str, *, as_json: bool) -> None:
    """Show what was learned and the channel's move. Exit with 1 if nothing has moved because of a freeze."""
    state = done.state
    if as_json:
        write_json(_json(done))
    else:
        rows = [
            (name, f"{errors.n:,}", *_texts(errors))
            for name, errors in (("without calibration", done.raw), ("with what the days before taught", done.before))
            if errors.n
        ]
        columns = ("the last day's rides", "rides", "RMSE", "bias", "coverage")
        write_table("Errors in minutes; bias is predicted minus actual", columns, rows, numeric=columns[1:])
        skipped = f"; {done.n_missing:,} hours have none" if done.n_missing else ""
        write_facts("", {"learned from": f"labelled rides of {done.n_hours:,} hours{skipped}"})
    if done.moved is None:
        if not as_json:
            write_lines([f"Nothing has moved: {state.frozen}."])
        raise typer.Exit(1)
    if not as_json:
        show_move(done.moved, bucket_name, as_json=False)


def _texts(errors: "Sums") -> tuple[str, str, str]:
    coverage = "none" if errors.coverage is None else f"{errors.coverage:.3f}"
    return f"{errors.rmse_minutes:.3f}", f"{errors.bias_minutes:+.3f}", coverage


def _json(done: "Calibrated") -> dict[str, Any]:
    state, moved = done.state, done.moved
    return {
        "model_version": state.model_version,
        "as_of": state.as_of,
        "moved": bool(moved and moved.has_moved),
        "served_version": moved.now.served_version if moved else None,
        "frozen": state.frozen,
        "n_hours": done.n_hours,
        "n_missing_hours": done.n_missing,
        "interval_scale": state.interval_scale,
        "weights": list(state.weights),
        "last_day": {
            "raw": _errors(done.raw),
            "calibrated": _errors(done.before),
        },
    }


def _errors(errors: "Sums") -> dict[str, Any] | None:
    if not errors.n:
        return None
    names = ("rmse_minutes", "bias_minutes", "coverage")
    return {"n_rides": errors.n, **{name: getattr(errors, name) for name in names}}
