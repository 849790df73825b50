"""The MLOps Zoomcamp's two models beside ours, on the same rides.

    python -m tests.bench.course --train 2021-01 --validate 2021-02

The course trains a linear regression in its first lessons and serves a random forest in its streaming lambda. Both see
the pair of zones and the distance only. This command fits both and ours on the same training rides of green taxis, of
1 to 60 minutes, and prints RMSE and MAE on the validation rides.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.cli.output import counting, error_console, live_display
from training.data.load import tlc_months
from training.data.months import parse_months
from training.data.rides import Rides
from training.errors import UserError
from training.evaluation.metrics import evaluate, measure_errors
from training.model.baseline import fit_baseline
from training.model.bundle import read_bundle
from training.model.course import N_TREES, course_features, fit_course_forest
from training.model.results import Measured
from training.workflows.pipeline import train

FOREST, LINEAR, OURS = "course, forest (served)", "course, linear", "ridecast"


def compare(train_rides: Rides, validate_rides: Rides, bundle: Path | None, console: Console) -> dict[str, Measured]:
    """Fit the models on the same rides and return their errors on later ones.

    Args:
        train_rides: The training rides.
        validate_rides: Rides that no model has learnt from.
        bundle: The folder of a bundle of ours, trained on the same rides; None to fit one.
        console: For progress.
    """
    with counting(console, "fitting the course's forest", N_TREES) as on_trees:
        forest = fit_course_forest(train_rides, on_trees)
    with live_display(console) as display:
        display.step("predicting with the course's forest")
        predicted = forest.predict(course_features(validate_rides.columns))
        errors = measure_errors(predicted, validate_rides.duration_minutes)
        if bundle is None:
            ours = train(
                "green", train_rides, validate_rides, on_step=display.step, has_reference=False
            ).evaluation.validate
        else:
            model = read_bundle(bundle).model
            display.step("fitting the linear regression")
            ours = evaluate(model, fit_baseline(train_rides), validate_rides, train_rides)
    return {FOREST: errors, LINEAR: ours.baseline, OURS: ours.model}


def scores_table(title: str, scores: Mapping[str, Measured]) -> Table:
    """Build the table: a row for each model; a ratio is our error divided by the error of this row."""
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for column in ("RMSE, min", "MAE, min", "RMSE ratio", "MAE ratio"):
        table.add_column(column, justify="right")
    ours = scores[OURS]
    for name, score in scores.items():
        errors = score.rmse_minutes, score.mae_minutes
        ratios = ours.rmse_minutes / score.rmse_minutes, ours.mae_minutes / score.mae_minutes
        table.add_row(name, *(f"{figure:.2f}" for figure in (*errors, *ratios)))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, measure and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.course", description="The course's models beside ours."
    )
    parser.add_argument("--train", default="2021-01", help="training months: 2021-01, a list, or 2022-01..2022-03")
    parser.add_argument("--validate", default="2021-02", help="later months to measure on")
    parser.add_argument(
        "--bundle", type=Path, help="our bundle's folder, trained on the same months; else one is fitted"
    )
    options = parser.parse_args(arguments)
    console = error_console()
    try:
        load = tlc_months("green")
        train_rides, validate_rides = load(parse_months(options.train)), load(parse_months(options.validate))
        scores = compare(train_rides, validate_rides, options.bundle, console)
    except UserError as error:
        console.print(str(error), markup=False)
        return 2
    title = (
        f"green, {options.train} → {options.validate}: "
        f"{len(train_rides):,} training rides, {len(validate_rides):,} validation rides"
    )
    Console(file=sys.stdout).print(scores_table(title, scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
