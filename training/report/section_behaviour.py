"""The sections on how the model behaves: its intervals, what it looks at, where it errs, how it ages."""

from collections.abc import Mapping

from training.evaluation.backtest import AgeRow
from training.evaluation.gate_rules import MIN_SLICE_RIDES as FEW_RIDES
from training.evaluation.slices import BOROUGH_OF_ZONE, BOROUGHS
from training.model.results import MonthsResult
from training.report.facts import (
    MIN_RIDES_A_ZONE,
    MIN_RIDES_LISTED,
    N_ZONES_LISTED,
    ReportFacts,
    ZoneErrors,
    by_pickup_zone,
)
from training.report.html import Html, element, join
from training.report.plots_model import has_rivals
from training.report.plots_rides import MIN_COVERAGE_RIDES, slice_band
from training.report.section_accuracy import NOT_PREDICTED
from training.report.tables import figure, minutes, paragraph, percent, signed_minutes, table

Plots = Mapping[str, bytes]


def intervals(facts: ReportFacts, plots: Plots) -> Html:
    """Whether intervals hold as many rides as they promise, in every slice, and how wide they are."""
    if facts.interval_level is None:
        return paragraph("This bundle gives no intervals: train it again with ridecast train.", class_="missing")
    level = facts.interval_level
    columns = [_interval_column(level, result) for result in facts.results if result.coverage is not None]
    names = ("months", "promised", "rides inside", "mean width, minutes", f"slices of {FEW_RIDES:,} rides in the band")
    heads, *rows = zip(names, *columns, strict=True)
    drawn = [figure(plots[name], name, caption) for name, caption in _interval_captions(level).items() if name in plots]
    kept = table("Promised and kept, on months that the model has not learnt from", heads, rows)
    return element("div", kept, *drawn, class_="pair")


def importance(facts: ReportFacts, plots: Plots) -> Html:
    """How much worse the model gets without each feature."""
    if not facts.importance:
        return paragraph(NOT_PREDICTED, class_="missing")
    caption = (
        f"How much the RMSE rises where values are shuffled among {facts.n_importance_rides:,} validation rides; the "
        "thin line is the range of the repeats. What tells one place is shuffled together."
    )
    rows = [
        (each.name, minutes(each.rise_minutes), f"{minutes(each.low_minutes)} to {minutes(each.high_minutes)}")
        for each in sorted(facts.importance, key=lambda each: -each.rise_minutes)
    ]
    return join(
        paragraph(
            "Features that say the same thing stand in for each other, and each alone seems to matter less than it "
            "does: the straight line for a distance that is missing, one axis of a place for another."
        ),
        element(
            "div",
            figure(plots["importance"], "importance", caption),
            table("Together and one by one, minutes of RMSE", ("shuffled", "rise", "range of the repeats"), rows),
            class_="pair",
        ),
    )


def error_map(facts: ReportFacts, plots: Plots) -> Html:
    """New York by pickup zone, and the zones where the model errs most."""
    if facts.rides is None or "map_rmse" not in plots:
        return paragraph(NOT_PREDICTED, class_="missing")
    outlines = "" if facts.outlines else " For outlines, give a GeoJSON of the zones with --zones."
    caption = f"By pickup zone; a dot's area is its number of rides, {MIN_RIDES_A_ZONE} at least."
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
            ("LocationID", "borough", "rides", "RMSE", "MAE", "bias"),
            [_zone_row(zone) for zone in worst],
            kinds="tt",
        ),
    )


def ageing(facts: ReportFacts, plots: Plots) -> Html:
    """The error against the months since training."""
    if not facts.ageing:
        missing = "No month after its training is at hand. ridecast backtest --service {} walks over all that are."
        return paragraph(missing.format(facts.manifest.service), class_="missing")
    itself = all(row.train_months == facts.manifest.train_months for row in facts.ageing)
    whose = "This model" if itself else "Models trained like this one, each on the months of its row,"
    below = " Below: how far each is behind the latest-trained of them on the same month."
    caption = (
        f"{whose} on later months, beside the baseline of the same training. Dots are months, lines join their means."
        f"{below if has_rivals(facts.ageing) else ''}"
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
            f"A dot a slice of {MIN_COVERAGE_RIDES} rides or more, hollow below {FEW_RIDES:,}. "
            f"Full ones belong within {band}."
        ),
        "interval_coverage": f"Rides inside their interval as predictions grow; {percent(level, 0)} are promised.",
        "interval_width": "How wide the intervals are as predictions grow.",
    }


def _interval_column(level: float, result: MonthsResult) -> tuple[object, ...]:
    low, high = slice_band(level)
    large = [each.coverage for each in result.slices if each.coverage is not None and each.model.n_rides >= FEW_RIDES]
    n_inside = sum(low <= coverage <= high for coverage in large)
    width = minutes(result.width_minutes or 0.0)
    return ", ".join(result.months), percent(level), percent(result.coverage), width, f"{n_inside} of {len(large)}"


def _zone_row(zone: ZoneErrors) -> tuple[object, ...]:
    errors = zone.errors
    rmse, mae = minutes(errors.rmse_minutes), minutes(errors.mae_minutes)
    return (
        zone.zone,
        BOROUGHS[BOROUGH_OF_ZONE[zone.zone]],
        f"{errors.n_rides:,}",
        rmse,
        mae,
        signed_minutes(errors.bias_minutes),
    )


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
