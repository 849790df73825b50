"""All plots of a report, as standalone SVG files by name."""

from training.report import plots_model, plots_rides
from training.report.facts import ReportFacts
from training.report.measures import PredictedRides, by_pickup_zone, by_predicted_duration
from training.report.section_accuracy import by_kind, plot_name


def draw_plots(facts: ReportFacts) -> dict[str, bytes]:
    """Draw the plots that the facts allow. The same facts give the same bytes."""
    drawn = _slice_plots(facts) | _ride_plots(facts.rides, facts.interval_level) | _maps(facts)
    drawn["importance"] = plots_model.importance(facts.importance)
    if facts.ageing:
        drawn["ageing"] = plots_model.ageing(facts.ageing)
    return drawn


def _slice_plots(facts: ReportFacts) -> dict[str, bytes]:
    if not facts.results:
        return {}
    result = facts.results[0]
    drawn = {plot_name(result, kind): plots_rides.slice_errors(each) for kind, each in by_kind(result).items()}
    if facts.interval_level is not None and any(each.coverage is not None for each in result.slices):
        drawn["interval_slices"] = plots_rides.slice_coverage(result.slices, facts.interval_level)
    return drawn


def _ride_plots(rides: PredictedRides, level: float | None) -> dict[str, bytes]:
    bins = by_predicted_duration(rides)
    drawn = {
        "predicted_against_actual": plots_rides.predicted_against_actual(rides),
        "residuals": plots_rides.residuals(rides),
    }
    if bins:
        drawn["residuals_by_predicted"] = plots_rides.residuals_by_predicted(bins)
    if bins and level is not None and rides.interval_minutes is not None:
        drawn["interval_coverage"] = plots_rides.interval_coverage(bins, level)
        drawn["interval_width"] = plots_rides.interval_width(bins)
    return drawn


def _maps(facts: ReportFacts) -> dict[str, bytes]:
    zones = by_pickup_zone(facts.rides)
    if not zones:
        return {}
    return {
        "map_rmse": plots_model.map_rmse(zones, facts.outlines),
        "map_bias": plots_model.map_bias(zones, facts.outlines),
    }
