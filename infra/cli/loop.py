"""`ridecast loop`: retraining that gates, compares, promotes, watches and rolls back by itself."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.options import BUILD, BucketAws, Channel, Json, SigningKey, expand_options
from infra.cli.output import live_display, show_result, time_text, write_json

if TYPE_CHECKING:
    from infra.local.loop import LocalLoop
    from training.registry.bucket import Bucket
    from training.workflows.loop.state import RunRecord

JOURNALS = BUILD / "loop"
"""Has the results of runs on this machine."""

Run = Annotated[str, typer.Argument(help="Id of the run: `ridecast loop status` lists them.")]


@expand_options
def start_command(
    aws: BucketAws,
    reason: Annotated[str, typer.Option(help="Why, for the run's record.")] = "by hand",
    is_manual: Annotated[
        bool, typer.Option("--ask", help="On this machine: ask for approval before the promotion.")
    ] = False,
    channel: Channel = "stable",
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Start a run of the loop: retrain, gate, compare with the champion, promote, watch, roll back if it is worse.

    With --stack, the stack's durable function runs it, with the stack's options. Else this process does: it
    collects labelled rides from the bucket and trains on them, then the run waits for the monitor's days. Call the
    command again to go on with that run: it keeps the channel and the --ask that it began with. Prints the run's id,
    and what it waits for. Exits with 1 if a run on this machine was refused or failed.

    Example: ridecast loop start --reason "new zones" --stack ridecast
    """
    from infra.local.loop import new_run_id

    run_id = new_run_id(_now())
    if aws.deployed:
        _check_stack_decides(aws, channel, is_manual=is_manual)
        _invoke(aws, run_id, reason)
        hint = f"follow it with `ridecast loop status {run_id} --stack {aws.stack}`"
        show_result("Started", {"run_id": run_id, "reason": reason, "next": hint}, as_json=as_json)
        return
    local = _local(aws, channel, signing_key, is_manual=is_manual)
    record = _resume(local, run_id, reason)
    if as_json:
        write_json(_facts(record))
    else:
        from infra.cli.loop_view import write_run

        write_run(record, local.next_due(record.run_id))
    if record.end and not record.has_worked:
        raise typer.Exit(1)


@expand_options
def status_command(
    aws: BucketAws,
    run: Annotated[str | None, typer.Argument(help="Id of a run, for its steps. (default: all runs)")] = None,
    as_json: Json = False,
) -> None:
    """Show the runs of the loop, or the steps of one run: when, with which outcome, and why.

    A run that was refused has its reason, too. The line `lease` says which run may move channels, and until when.

    Example: ridecast loop status --stack ridecast
    """
    from infra.cli.loop_view import write_run, write_runs
    from training.workflows.loop.lease import read_lease
    from training.workflows.loop.state import read_runs

    bucket, now = aws.open_named_bucket(), _now()
    if run:
        record = _read(bucket, run)
        write_json(_facts(record)) if as_json else write_run(record, None)
        return
    runs, lease = read_runs(bucket), read_lease(bucket, now)
    if as_json:
        held = {"run_id": lease.run_id, "expires_at": lease.expires_at.isoformat()} if lease else None
        write_json({"runs": [_facts(one) for one in runs], "lease": held})
    else:
        write_runs(runs, lease)


@expand_options
def approve_command(
    aws: BucketAws,
    run: Run,
    is_declined: Annotated[bool, typer.Option("--decline", help="Keep the champion.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the run's record.")] = "",
    as_json: Json = False,
) -> None:
    """Approve a candidate that a run has found better, or decline it. The run then promotes it, or ends.

    Only a run with LoopApproval=manual asks. Asks nothing. Exits with 2 if the run does not wait for approval.

    Example: ridecast loop approve 20261129-201530 --stack ridecast
    """
    from training.errors import UserError
    from training.registry.channels import this_mover

    bucket = aws.open_named_bucket()
    record = _read(bucket, run)
    callback_id = record.waiting.callback_id if record.waiting else None
    if not callback_id or not (record.waiting and record.waiting.what.startswith("approval")):
        hint = f"`ridecast loop status {run}` shows what it waits for"
        raise UserError(f"run {run} does not wait for approval", hint)
    answer = {"approved": not is_declined, "by": this_mover().name, "reason": reason}
    local = _local_of(bucket)
    if local.began_here(run):
        was_awaited = local.approve(run, callback_id, answer)
        hint = "`ridecast loop start` goes on with the run"
    else:
        was_awaited = _send_answer(aws, callback_id, answer)
        hint = f"`ridecast loop status {run}` shows what the run does"
    if not was_awaited:
        raise UserError(f"run {run} no longer waits for approval", f"`ridecast loop status {run}` shows what it did")
    title = "Declined" if is_declined else "Approved"
    show_result(title, {"run_id": run, "candidate": record.candidate, **answer, "next": hint}, as_json=as_json)


@expand_options
def stop_command(
    aws: BucketAws,
    run: Run,
    reason: Annotated[str, typer.Option(help="Why, for the run's record.")] = "",
    as_json: Json = False,
) -> None:
    """Stop a run: its experiments stop, another run may begin, and it does nothing more. No channel moves.

    What it has promoted goes on serving: `ridecast models rollback` takes that back. Asks nothing.

    Example: ridecast loop stop 20261129-201530 --reason "new prices" --stack ridecast
    """
    from training.registry.channels import Mover, this_mover
    from training.workflows.loop.stop import stop_run

    record = stop_run(aws.open_named_bucket(), run, Mover(this_mover().name, _now), reason)
    end = record.end.outcome if record.end else ""
    show_result("Stopped" if end == "stopped" else "Had ended", _facts(record), as_json=as_json, shown=_shown(record))


def _now() -> datetime:
    return datetime.now(UTC)


def _check_stack_decides(aws: BucketAws, channel: str, *, is_manual: bool) -> None:
    """Refuse options that a stack's function would not see.

    Raises:
        UserError: The stack has others.
    """
    from training.errors import UserError

    if is_manual and aws.parameter("LoopApproval") != "manual":
        problem = f"stack {aws.stack} promotes without asking, and --ask is for runs on this machine"
        raise UserError(problem, "deploy the stack with LoopApproval=manual")
    kept = aws.parameter("ModelChannel") or "stable"
    if channel not in {"stable", kept}:
        raise UserError(f"the loop of stack {aws.stack} keeps the channel {kept}", "leave --channel out")


def _invoke(aws: BucketAws, run_id: str, reason: str) -> None:
    """Start a durable execution of the stack's function, whose name is the run's id."""
    from training.errors import UserError

    alias = aws.optional_output("LooperAliasArn")
    if alias is None:
        raise UserError(f"stack {aws.stack} has no loop", "deploy it with LoopMode=on: see docs/deploy.md")
    aws.client("lambda").invoke(
        FunctionName=alias,
        InvocationType="Event",
        DurableExecutionName=run_id,
        Payload=json.dumps({"trigger": "manual", "id": run_id, "reason": reason}),
    )


def _send_answer(aws: BucketAws, callback_id: str, answer: dict[str, Any]) -> bool:
    from training.errors import FOLDER_PREFIX, UserError
    from training.functions.callbacks import CallbackError, LambdaCallbacks

    if aws.deployed is None and (aws.local or (aws.bucket or "").startswith(FOLDER_PREFIX)):
        problem = f"the run did not begin here: {JOURNALS} has no results of it"
        raise UserError(problem, "call the command in the project, and on the machine, in which the run was started")
    try:
        return LambdaCallbacks(aws.client("lambda")).answer(callback_id, answer)
    except CallbackError as error:
        raise UserError(f"Lambda did not take the answer: {error.__cause__}", "try again") from error


def _local(aws: BucketAws, channel: str, signing_key: str | None, *, is_manual: bool) -> "LocalLoop":
    from infra.local.loop import LocalLoop
    from training.workflows.loop.options import LoopOptions

    options = LoopOptions(channel=channel, approval="manual" if is_manual else "auto")
    return LocalLoop(aws.open_named_bucket(), JOURNALS, options, _now, aws.signer(signing_key))


def _local_of(bucket: "Bucket") -> "LocalLoop":
    from infra.local.loop import LocalLoop
    from training.workflows.loop.options import LoopOptions

    return LocalLoop(bucket, JOURNALS, LoopOptions(), _now)


def _resume(local: "LocalLoop", run_id: str, reason: str) -> "RunRecord":
    """Begin a run, or go on with the one that is open, and return its record."""
    from infra.local.loop import start_of
    from training.workflows.loop.options import LoopStart

    begun = local.open_run()
    start = start_of(begun) if begun else LoopStart(run_id=run_id, trigger="manual", reason=reason)
    if begun and begun.channel != local.options.channel:
        local = replace(local, options=replace(local.options, channel=begun.channel))
    with live_display() as display:
        local.resume(start, display.step)
    return _read(local.bucket, start.run_id)


def _read(bucket: "Bucket", run_id: str) -> "RunRecord":
    from training.errors import UserError, bucket_address
    from training.workflows.loop.state import read_run

    record = read_run(bucket, run_id)
    if record is None:
        problem = f"there is no run {run_id} of the loop in {bucket_address(bucket.name)}"
        raise UserError(problem, "`ridecast loop status` lists the runs")
    return record


def _facts(record: "RunRecord") -> dict[str, Any]:
    import msgspec

    facts: dict[str, Any] = msgspec.to_builtins(record)
    return facts


def _shown(record: "RunRecord") -> dict[str, Any]:
    return {
        "run": record.run_id,
        "ended at": time_text(record.ended_at),
        "outcome": record.end.outcome if record.end else "",
        "reason": record.end.text if record.end else "",
    }
