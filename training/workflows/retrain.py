"""Retrain on collected rides, without a person and without pyarrow: contract, training, gate, and the stored bundle.

The same rides give the same bundle as `ridecast train --labelled` with the same days, byte by byte.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast, get_args

from lambda_function.core.bundle import sha256
from training.data.contract import RULES, ContractError, check_contract
from training.data.labelled_rides import rides_of_month
from training.data.months import Month, Service
from training.data.pace import PACE, check_pace
from training.data.ride_arrays import RideArrays, decode_ride_arrays
from training.data.rides import Rides, concat_rides
from training.errors import BucketError, UserError, bucket_address
from training.evaluation.gate import GateReport, encode_gate_report
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.signing import Signer
from training.registry.sources import put_artifacts
from training.registry.versions import verdict_name
from training.tracking.environment import ENVIRONMENT, describe_environment, encode_environment
from training.tracking.training_record import TRAINING_RECORD
from training.workflows.answers import answer_once
from training.workflows.day_split import MAX_RIDES, TooFewRidesError, TooManyRidesError, split_days
from training.workflows.loop.requests import Trained, TrainRequest
from training.workflows.pipeline import train
from training.workflows.record import record_training
from training.workflows.target import Target

_DAYS = "days"  # the contract's rule that every day has rides

_CONTRACT_HINT = (
    "a later run trains once such days are out of its days; if the city itself changed, train with"
    " `ridecast train --labelled`, which takes --allow"
)


class _Parts(NamedTuple):
    train: Rides
    validate: Rides
    test: Rides


def retrain(
    bucket: Bucket,
    request: TrainRequest,
    signer: Signer | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    *,
    parameters: dict[str, Any] | None = None,
    max_rides: int = MAX_RIDES,
) -> Trained:
    """Train on collected rides, gate the model against a channel's champion, and store the bundle and the verdict.

    A model that fails the gate is stored too, for people to look at, but is not signed. No channel moves. Called again
    for the same run, it returns the first answer and does nothing.

    Args:
        bucket: Has the rides, the models and the channels.
        request: The rides, the channel and the days of the gate.
        signer: Signs a model that passes; None if no signature is needed.
        on_step: Receives the name of each step as it begins.
        parameters: Those of the model; None for those of `ridecast train`.
        max_rides: More are refused.

    Raises:
        ContractError: The rides break a rule of the data contract that is not allowed, or days have an odd pace.
        TooFewRidesError: There are too few days or usable rides.
        TooManyRidesError: There are more rides than `max_rides`.
        RideArraysError: The object has something other than rides.
        BucketError: S3 failed, or the object is not the one that was collected.
        UserError: KMS did not sign.
    """

    def once() -> Trained:
        on_step("reading the rides")
        parts = _load(bucket, request, max_rides)
        return _train(bucket, request, parts, signer, on_step, parameters)

    return answer_once(bucket, request.run_id, "train", Trained, once)


def _load(bucket: Bucket, request: TrainRequest, max_rides: int) -> _Parts:
    """Return the clean rides, each part with its own days; they keep the data contract."""
    if request.service not in get_args(Service):
        raise UserError(f"service is {request.service!r}", f"choose one of {', '.join(get_args(Service))}")
    arrays = _read(bucket, request)
    days = split_days(arrays.first, arrays.last, request.gate_days)
    if len(arrays.rows) > max_rides:
        command = days.command(bucket_address(bucket.name), request.channel, request.service)
        raise _too_many(len(arrays.rows), max_rides, command)
    if PACE not in request.allow:
        check_pace(arrays.rows)
    parts = _Parts(*(concat_rides(_usable(arrays, month) for month in months) for months in days))
    _check(parts, request.allow)
    return parts


def _check(parts: _Parts, allow: Collection[str]) -> None:
    """Check the contract. A day without rides, as after an outage, is allowed among those that the model learns from.

    It teaches nothing wrong, and would otherwise stop every training until it has left the span. Days that are measured
    on must have rides.
    """
    measured = (*parts.validate.sources, *parts.test.sources)
    try:
        check_contract([source for part in parts for source in part.sources], {*allow, _DAYS})
        check_contract(measured, RULES if _DAYS in allow else RULES.keys() - {_DAYS})
    except ContractError as error:  # its hint is for months of TLC
        raise ContractError(error.sentence, _CONTRACT_HINT) from error


def _train(
    bucket: Bucket,
    request: TrainRequest,
    parts: _Parts,
    signer: Signer | None,
    on_step: Callable[[str], None],
    parameters: dict[str, Any] | None,
) -> Trained:
    started_at = datetime.now(UTC)
    run = train(cast("Service", request.service), parts.train, parts.validate, parameters, on_step)
    on_step(f"gating against the model in {request.channel}")
    verdict = Target(bucket, request.channel).judge(run.bundle, parts.test, parts.train)
    on_step("storing the bundle")
    store_bundle(bucket, run.bundle, signer if verdict.passed else None)
    artifacts = {
        ENVIRONMENT: encode_environment(describe_environment()),
        TRAINING_RECORD: record_training(started_at, parts.validate, parts.test),
        verdict_name(request.channel): encode_gate_report(verdict),
    }
    put_artifacts(bucket, run.bundle.model_version, artifacts)
    return Trained(
        model_version=run.bundle.model_version,
        manifest_sha256=run.bundle.manifest_sha256,
        passed=verdict.passed,
        failed_rules=tuple(rule.rule for rule in verdict.rules if not rule.passed),
        reason=_reason(verdict),
        n_rides=run.n_train,
    )


def _too_many(n_rides: int, max_rides: int, command: str) -> TooManyRidesError:
    """Return the refusal of too many rides, with the command that trains on them elsewhere."""
    return TooManyRidesError(
        f"{n_rides:,} labelled rides are more than the {max_rides:,} that a function can train on in its time",
        f"take fewer days (TrainingDays), or train on another machine: {command}",
    )


def _read(bucket: Bucket, request: TrainRequest) -> RideArrays:
    stored = bucket.read(request.rides_key)
    if stored is None:
        raise BucketError(bucket.name, request.rides_key, "is missing: collect the rides again, in a new run")
    if sha256(stored.body) != request.rides_sha256:
        raise BucketError(bucket.name, request.rides_key, "is not what was collected: start a new run")
    return decode_ride_arrays(stored.body)


def _usable(arrays: RideArrays, month: Month) -> Rides:
    rides = rides_of_month(arrays.rows, month)
    if not len(rides):
        (source,) = rides.sources
        dropped = ", ".join(f"{reason} {n:,}" for reason, n in source.dropped.items() if n)
        raise TooFewRidesError(f"none of the {source.n_rows:,} rides of {month} can be used ({dropped or 'no rows'})")
    return rides


def _reason(verdict: GateReport) -> str:
    against = verdict.against or "the baseline"
    months = ", ".join(verdict.months)
    if verdict.passed:
        return f"{verdict.model_version} passes the gate of {verdict.channel} against {against} on {months}"
    failed = "; ".join(f"{rule.rule}: {rule.seen} (wanted: {rule.wanted})" for rule in verdict.rules if not rule.passed)
    return f"{verdict.model_version} fails the gate of {verdict.channel} against {against} on {months}: {failed}"
