"""`ridecast experiments`: start, show and stop comparisons of models on live rides."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infra.cli.options import ActivationDelay, BucketAws, Channel, Json, SigningKey, expand_options
from infra.cli.output import show_result, write_json

if TYPE_CHECKING:
    from training.experiments.experiment import Experiment
    from training.experiments.start import SplitOptions
    from training.registry.bucket import Bucket

ModeName = Literal["shadow", "split"]
"""How candidates get their rides."""

_EXIT_DAMAGED = 1
_FEWEST_DAYS = 5  # on fewer days the interval of a verdict has no end, so the answer would always be "undecided"

_Name = Annotated[str, typer.Argument(help="Name of the experiment.")]


@expand_options
def start_command(
    aws: BucketAws,
    candidates: Annotated[
        list[str],
        typer.Option("--candidate", help="Version to compare, or the beginning of one. Can be repeated."),
    ],
    mode: Annotated[
        ModeName, typer.Option(help="shadow: score every ride after the fact. split: serve a share of the rides.")
    ] = "shadow",
    share: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Share of the rides of a split, as 10%. It can grow later.")
    ] = None,
    margin: Annotated[
        str, typer.Option(metavar="PERCENT", help="A smaller difference is none, in % of the champion's squared error.")
    ] = "2%",
    budget: Annotated[str, typer.Option(metavar="DAYS", help="Days until there is an answer, as 28d.")] = "28d",
    name: Annotated[str | None, typer.Option(help="Name of the experiment. (default: the first candidate's)")] = None,
    champion: Annotated[
        str | None, typer.Option(help="Version to compare with. (default: the model that the channel holds)")
    ] = None,
    channel: Channel = "stable",
    activation_delay: ActivationDelay = None,
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Start an experiment: compare candidates with the champion on live rides.

    A shadow changes no prediction: the monitor function scores all versions on the labelled rides of each day, once
    they are joined. A split lets the candidate serve a share of the rides; it needs what `models promote` needs. The
    same command with a larger --share lets the share grow. Repeating a command changes nothing.

    Example: ridecast experiments start --candidate green-2023-03 --stack ridecast
    """
    from training.errors import UserError
    from training.experiments.start import ExperimentOptions, start_experiment
    from training.registry.channels import this_mover
    from training.registry.versions import resolve_version

    margin_percent, budget_days = _margin(margin), _days(budget)
    share_percent = _percent(share, "--share") if share is not None else None
    bucket = aws.open_named_bucket()
    versions = tuple(resolve_version(bucket, one) for one in candidates)
    options = ExperimentOptions(
        name=name or versions[0],
        candidates=versions,
        mode=mode,
        margin_percent=margin_percent,
        budget_days=budget_days,
        first_look_days=min(7, budget_days),
        channel=channel,
        champion=resolve_version(bucket, champion) if champion else None,
        share=share_percent and share_percent / 100,
    )
    found = start_experiment(bucket, options, this_mover(), _split_options(aws, activation_delay, signing_key))
    if found.stopped:
        hint = "start it again with another --name"
        raise UserError(f"experiment {found.name} was stopped by {found.stopped.by} at {found.stopped.at}", hint)
    _show_started(found, as_json=as_json)


@expand_options
def status_command(
    aws: BucketAws,
    name: Annotated[str | None, typer.Argument(help="Name of one experiment. (default: all)")] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", dir_okay=False, help="File for a plot of one experiment's intervals by day.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what experiments say until now.

    Prints for each candidate its error and the champion's, the difference with an interval, the answer, and what an
    answer still needs. Of one experiment also how the interval has narrowed from day to day. The interval stays valid
    however often one looks. Exits with 1 if an experiment can't be read.

    Example: ridecast experiments status --stack ridecast
    """
    bucket = aws.open_named_bucket()
    if name is not None:
        _show_one(_named(bucket, name), svg, as_json=as_json)
    elif svg is not None:
        raise typer.BadParameter("draws one experiment: name it", param_hint="'--svg'")
    else:
        _show_all(bucket, as_json=as_json)


@expand_options
def stop_command(
    aws: BucketAws,
    name: _Name,
    why: Annotated[str, typer.Option(help="The reason, for those who look later.")] = "stopped by hand",
    activation_delay: ActivationDelay = None,
    as_json: Json = False,
) -> None:
    """Stop an experiment: it gets no more days, and stays readable.

    The champion of a split serves all rides again, some minutes later. Asks nothing.

    Example: ridecast experiments stop green-2023-03-abcdef123456 --stack ridecast
    """
    from infra.cli.experiments_view import experiment_json
    from training.experiments.start import stop_experiment
    from training.registry.channels import this_mover

    done = stop_experiment(
        aws.open_named_bucket(), name, this_mover(), why, _split_options(aws, activation_delay, None)
    )
    assert done.stopped is not None  # noqa: S101 - it was stopped
    shown = {"stopped by": done.stopped.by, "at": done.stopped.at, "why": done.stopped.why, "days": len(done.days)}
    show_result(f"Experiment {done.name}", experiment_json(done), as_json=as_json, shown=shown)


def _split_options(aws: BucketAws, activation_delay: float | None, signing_key: str | None) -> "SplitOptions":
    from training.experiments.start import SplitOptions

    return SplitOptions(aws.signer(signing_key), aws.activation_delay_s(activation_delay))


def _show_started(found: "Experiment", *, as_json: bool) -> None:
    from infra.cli.experiments_view import experiment_json, mode_text

    shown = {
        "champion": found.champion,
        "candidates": found.candidates,
        "mode": mode_text(found),
        "calibration": found.calibration_mode.value,
        "margin": f"{found.rules.margin_percent:g}% of the champion's mean squared error",
        "budget": f"{found.rules.budget_days} days, from {found.first_day} on",
        "started": f"{found.started_at} by {found.started_by}",
        "look": f"ridecast experiments status {found.name}",
    }
    show_result(f"Experiment {found.name}", experiment_json(found), as_json=as_json, shown=shown)


def _show_one(experiment: "Experiment", svg: Path | None, *, as_json: bool) -> None:
    from infra.cli.experiments_view import experiment_json, write_experiment

    if svg is not None:
        _write_plot(experiment, svg)
    if as_json:
        write_json(experiment_json(experiment))
    else:
        write_experiment(experiment)


def _show_all(bucket: "Bucket", *, as_json: bool) -> None:
    from infra.cli.experiments_view import experiment_json, write_overview
    from training.errors import BucketError
    from training.experiments.experiment import experiment_names, read_experiment

    held: list[Experiment] = []
    damaged: dict[str, str] = {}
    for name in experiment_names(bucket):
        try:
            found = read_experiment(bucket, name)
        except BucketError as error:
            damaged[name] = str(error)
        else:
            held += [found] if found else []
    held.sort(key=lambda one: (one.started_at, one.name))
    if as_json:
        write_json({"experiments": [experiment_json(one) for one in held], "damaged": damaged})
    else:
        write_overview(held, damaged)
    if damaged:
        raise typer.Exit(_EXIT_DAMAGED)


def _named(bucket: "Bucket", name: str) -> "Experiment":
    from training.errors import UserError
    from training.experiments.experiment import read_experiment

    found = read_experiment(bucket, name)
    if found is None:
        raise UserError(f"there is no experiment {name!r}", "`ridecast experiments status` lists them")
    return found


def _write_plot(experiment: "Experiment", path: Path) -> None:
    from training.errors import UserError
    from training.report.experiment_plot import draw_experiment

    drawn = draw_experiment(experiment)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})", "name another file with --svg") from error


def _percent(text: str, option: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if not found:
        raise typer.BadParameter(f"{text!r} is no percentage: write it as 2%", param_hint=f"'{option}'")
    return float(found[1])


def _margin(text: str) -> float:
    percent = _percent(text, "--margin")
    if percent >= 100:  # noqa: PLR2004 - percent
        raise typer.BadParameter(
            f"{text!r} would call every candidate equivalent: write it as 2%", param_hint="'--margin'"
        )
    return percent


def _days(text: str) -> int:
    found = re.fullmatch(r"(\d{1,4})\s*d", text.strip())
    if not found or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no number of days: write it as 28d", param_hint="'--budget'")
    if int(found[1]) < _FEWEST_DAYS:
        raise typer.BadParameter(
            f"no answer comes in fewer than {_FEWEST_DAYS} days: give 28d", param_hint="'--budget'"
        )
    return int(found[1])
