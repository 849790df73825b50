"""The sections on behaviour: intervals, feature importance, errors by pickup zone, and ageing."""

from training.evaluation.backtest import AgeRow
from training.evaluation.gate_rules import MIN_SLICE_RIDES
from training.evaluation.slices import BOROUGH_OF_ZONE, BOROUGHS
from training.model.results import MonthsResult
from training.report.drawing import Plots
from training.report.facts import ReportFacts
from training.report.html import Html, element, figure, join, minutes, paragraph, percent, table
from training.report.measures import MAX_IMPORTANCE_RIDES, MIN_RIDES_A_ZONE, by_pickup_zone
from training.report.plots_model import has_newer_models
from training.report.plots_rides import MIN_COVERAGE_RIDES, slice_band
from training.report.section_accuracy import error_cells
from training.report.zones import zone_name

N_ZONES_LISTED, MIN_RIDES_LISTED = 8, 100


def intervals(facts: ReportFacts, plots: Plots) -> Html:
    """Show the coverage of the intervals, overall and by slice, and their width."""
    if facts.interval_level is None:
        return paragraph("This bundle has no intervals. Train the model again with ridecast train.", class_="missing")
    level = facts.interval_level
    columns = [_interval_column(level, result) for result in facts.results if result.coverage is not None]
    names = (
        "months",
        "wanted",
        "rides inside",
        "mean width, minutes",
        f"slices of {MIN_SLICE_RIDES:,} rides in the band",
    )
    heads, *rows = zip(names, *columns, strict=True)
    drawn = [figure(plots[name], name, caption) for name, caption in _interval_captions(level).items() if name in plots]
    coverage = table("Coverage of the intervals, on months that the model was not trained on", heads, rows)
    return element("div", coverage, *drawn, class_="pair")


def importance(facts: ReportFacts, plots: Plots) -> Html:
    """Show the rise of the RMSE without each feature."""
    n_rides = min(len(facts.rides), MAX_IMPORTANCE_RIDES)
    caption = (
        f"Rise of the RMSE if values are shuffled among {n_rides:,} validation rides. The thin line "
        "is the range of the repeats. The features of one place are shuffled together."
    )
    rows = [
        (each.name, minutes(each.rise_minutes), f"{minutes(each.low_minutes)} to {minutes(each.high_minutes)}")
        for each in sorted(facts.importance, key=lambda each: -each.rise_minutes)
    ]
    return join(
        paragraph(
            "Features with the same information replace each other, so each alone seems less important than it is. For "
            "example, the straight line between the zones replaces a missing distance."
        ),
        element(
            "div",
            figure(plots["importance"], "importance", caption),
            table("Rise of the RMSE, in minutes", ("shuffled", "rise", "range of repeats"), rows),
            class_="pair",
        ),
    )


def error_map(facts: ReportFacts, plots: Plots) -> Html:
    """Show maps of the errors by pickup zone, and the zones with the largest errors."""
    if "map_rmse" not in plots:
        return paragraph(f"Not drawn: no zone has {MIN_RIDES_A_ZONE} rides or more.", class_="missing")
    outlines = (
        ""
        if facts.outlines
        else " For the zones' outlines, put a GeoJSON file of the zones into TLC_DATA_DIR, or name it with --zones."
    )
    caption = f"By pickup zone; the area of a dot is the number of rides, at least {MIN_RIDES_A_ZONE}."
    listed = [zone for zone in by_pickup_zone(facts.rides) if zone.errors.n_rides >= MIN_RIDES_LISTED]
    worst = sorted(listed, key=lambda zone: -zone.errors.rmse_minutes)[:N_ZONES_LISTED]
    return join(
        element(
            "div",
            figure(plots["map_rmse"], "map-rmse", f"Size of the errors. {caption}{outlines}"),
            figure(plots["map_bias"], "map-bias", f"Direction of the errors. {caption}"),
            class_="pair",
        ),
        table(
            f"The largest errors among pickup zones of {MIN_RIDES_LISTED} rides or more, in minutes",
            ("LocationID", "zone", "borough", "rides", "RMSE", "MAE", "bias"),
            [
                (each.zone, zone_name(each.zone), BOROUGHS[BOROUGH_OF_ZONE[each.zone]], *error_cells(each.errors))
                for each in worst
            ],
            kinds="twt",
        ),
    )


def ageing(facts: ReportFacts, plots: Plots) -> Html:
    """Show the errors by months since training."""
    if not facts.ageing:
        missing = (
            "No month after the training is available here. For all local months, run ridecast backtest --service {}."
        )
        return paragraph(missing.format(facts.manifest.service), class_="missing")
    itself = all(row.train_months == facts.manifest.train_months for row in facts.ageing)
    models = "This model" if itself else "Models trained like this one, each on the months of its row,"
    below = " Below: the loss of each model to the most recently trained one on the same month."
    caption = (
        f"{models} on later months, beside the baseline of the same training. Dots are months, lines join the means."
        f"{below if has_newer_models(facts.ageing) else ''}"
    )
    rows = [_ageing_row(row) for row in sorted(facts.ageing, key=lambda row: (row.months_since_training, row.month))]
    heads = ("months since", "trained on", "tested on", "rides", "RMSE", "baseline", "ratio")
    return element(
        "div",
        figure(plots["ageing"], "ageing", caption),
        table("Errors by months since training, in minutes", heads, rows, kinds="ttt"),
        class_="pair uneven",
    )


def _interval_captions(level: float) -> dict[str, str]:
    band = " to ".join(percent(end, 0) for end in slice_band(level))
    return {
        "interval_slices": (
            f"A dot is a slice of {MIN_COVERAGE_RIDES} rides or more, hollow below {MIN_SLICE_RIDES:,} rides. "
            f"Full dots should be within {band}."
        ),
        "interval_coverage": f"Rides inside their interval, by predicted duration; {percent(level, 0)} are wanted.",
        "interval_width": "Mean width of the intervals, by predicted duration.",
    }


def _interval_column(level: float, result: MonthsResult) -> tuple[object, ...]:
    low, high = slice_band(level)
    large = [
        each.coverage for each in result.slices if each.coverage is not None and each.model.n_rides >= MIN_SLICE_RIDES
    ]
    n_inside = sum(low <= coverage <= high for coverage in large)
    width = minutes(result.width_minutes or 0.0)
    return ", ".join(result.months), percent(level), percent(result.coverage), width, f"{n_inside} of {len(large)}"


def _ageing_row(row: AgeRow) -> tuple[object, ...]:
    model, baseline = row.model.rmse_minutes, row.baseline.rmse_minutes
    ratio = f"{model / baseline:.2f}" if baseline else "\N{EN DASH}"
    return (
        row.months_since_training,
        ", ".join(row.train_months),
        row.month,
        f"{row.model.n_rides:,}",
        minutes(model),
        minutes(baseline),
        ratio,
    )
