"""The sections on errors: overall, by slice, by ride, and without a pickup time."""

from training.evaluation.gate_rules import MIN_SLICE_RIDES
from training.model.results import Measured, MonthsResult, SliceResult, worse_than_baseline
from training.report.drawing import Plots
from training.report.facts import PreviousModel, ReportFacts
from training.report.html import (
    Html,
    against,
    bullets,
    element,
    figure,
    join,
    minutes,
    paragraph,
    percent,
    signed_minutes,
    table,
)
from training.report.measures import PredictedRides
from training.report.plots_rides import is_by_number

TITLES = {
    "hour": "Hour of pickup",
    "weekday": "Weekday",
    "boroughs": "Boroughs, from and to",
    "distance": "Distance",
    "airport": "Airports, from or to",
    "zone pair": "Zone pair, known from training or unseen",
}
"""The titles of kinds of slices; a kind without an entry is its own title."""

NOT_EVALUATED = "Not evaluated: this bundle holds no evaluation.json. Train the model again with ridecast train."


def metrics(facts: ReportFacts, _: Plots) -> Html:
    """Show the model beside the baseline and the previous model."""
    if not facts.results:
        return paragraph(NOT_EVALUATED, class_="missing")
    rows = [row for result in facts.results for row in _metric_rows(facts, result)]
    return join(
        table(
            "Errors on months that the model was not trained on, in minutes",
            ("months", "model", "rides", "RMSE", "MAE", "bias", "RMSE against the baseline's"),
            rows,
            kinds="tw",
        ),
        paragraph(
            "RMSE is the root mean square error; it weighs large errors most. MAE is the mean absolute error. The bias "
            "is above 0 if predictions are too long on average. The baseline is the MLOps Zoomcamp's linear model, "
            "fitted on the same rides.",
            class_="note",
        ),
        _previous_note(facts.previous),
    )


def slices(facts: ReportFacts, plots: Plots) -> Html:
    """Show every kind of slice as a plot and a table, after a list of slices that are worse than the baseline."""
    if not facts.results:
        return paragraph(NOT_EVALUATED, class_="missing")
    return join(*(_slices_of(result, plots, first=not number) for number, result in enumerate(facts.results)))


def predicted(facts: ReportFacts, plots: Plots) -> Html:
    """Show predicted against actual durations."""
    caption = "A cell is one minute by one minute; on the line, prediction and ride agree."
    return figure(plots["predicted_against_actual"], "predicted", f"{caption} {_number_of(facts.rides)}")


def residuals(facts: ReportFacts, plots: Plots) -> Html:
    """Show the distribution of errors, overall and by predicted duration."""
    caption = f"Distribution of the errors, in steps of half a minute. {_number_of(facts.rides)}"
    drawn = [figure(plots["residuals"], "residuals", caption)]
    if "residuals_by_predicted" in plots:
        caption = (
            "The median error and the range of 8 in 10 errors, by predicted duration. Long rides are the least certain."
        )
        drawn.append(figure(plots["residuals_by_predicted"], "residuals-by-predicted", caption))
    return element("div", *drawn, class_="pair")


def without_pickup_time(facts: ReportFacts, _: Plots) -> Html:
    """Show the errors if the arrival time replaces the pickup time."""
    if facts.evaluation is None or not facts.evaluation.without_pickup_time:
        return paragraph(
            "Not measured: this bundle's evaluation.json has no such figures. Train the model again.", class_="missing"
        )
    whole = facts.evaluation.validate
    rows = [
        (each.arrival, *error_cells(each.model), against(each.model.rmse_minutes, whole.model.rmse_minutes))
        for each in facts.evaluation.without_pickup_time
    ]
    return join(
        paragraph(
            "An event may have no pickup time. Then the time at which the record arrives on the stream replaces it. "
            f"With the pickup time, the RMSE on the same rides is {minutes(whole.model.rmse_minutes)} minutes."
        ),
        table(
            "Errors without a pickup time, by when events arrive, in minutes",
            ("arrival", "rides", "RMSE", "MAE", "bias", "RMSE against with pickup time"),
            rows,
            kinds="w",
        ),
    )


def by_kind(result: MonthsResult) -> dict[str, list[SliceResult]]:
    """Return the slices by kind, in the order of the evaluation."""
    kinds: dict[str, list[SliceResult]] = {}
    for each in result.slices:
        kinds.setdefault(each.by, []).append(each)
    return kinds


def plot_name(result: MonthsResult, kind: str) -> str:
    """Return the name of the plot of one kind of slice."""
    return f"slices_{kind.replace(' ', '_')}_{'_'.join(result.months)}"


def _metric_rows(facts: ReportFacts, result: MonthsResult) -> list[tuple[object, ...]]:
    months, baseline = ", ".join(result.months), result.baseline.rmse_minutes
    models: list[tuple[object, Measured]] = [(element("b", "this model"), result.model)]
    if facts.previous and result.months == facts.rides.months:
        models.append((f"previous: {facts.previous.model_version}", facts.previous.errors))
    return [
        *((months, name, *error_cells(errors), against(errors.rmse_minutes, baseline)) for name, errors in models),
        (months, "baseline", *error_cells(result.baseline), ""),
    ]


def error_cells(errors: Measured) -> tuple[str, str, str, str]:
    """Format rides, RMSE, MAE and bias."""
    return (
        f"{errors.n_rides:,}",
        minutes(errors.rmse_minutes),
        minutes(errors.mae_minutes),
        signed_minutes(errors.bias_minutes),
    )


def _previous_note(previous: PreviousModel | None) -> Html:
    if previous is None:
        return paragraph("No previous model: the channel stable held no version before this one.", class_="missing")
    if not previous.trained_on:
        return paragraph(
            f"Neither {previous.model_version} nor this model was trained on the validation months.", class_="note"
        )
    months = ", ".join(previous.trained_on)
    text = f"{previous.model_version} was trained on {months}. Its errors there are lower than on new months."
    return paragraph(text, class_="note")


def _slices_of(result: MonthsResult, plots: Plots, *, first: bool) -> Html:
    """Show the slices of some months; for all but the first months only the tables, collapsed."""
    kinds = [_kind(kind, slices, result, plots, drawn=first) for kind, slices in by_kind(result).items()]
    if first:
        return join(_worse_named(result), *kinds)
    summary = element("summary", f"Tables of {', '.join(result.months)}")
    return join(_worse_named(result), element("details", summary, *kinds))


def _kind(kind: str, slices: list[SliceResult], result: MonthsResult, plots: Plots, *, drawn: bool) -> Html:
    heading = element("h3", f"{TITLES.get(kind, kind)}, {', '.join(result.months)}")
    rows = _slice_table(kind, slices, result)
    if not drawn:
        return join(heading, rows)
    name = plot_name(result, kind)
    plot = figure(plots[name], name, _slice_caption(kind, slices, result))
    return join(heading, element("div", plot, rows, class_="pair uneven"))


def _worse_named(result: MonthsResult) -> Html:
    months, worse = ", ".join(result.months), worse_than_baseline(result, MIN_SLICE_RIDES)
    n_small = len(worse_than_baseline(result)) - len(worse)
    small = (
        f" Of the smaller ones, in which chance decides more, {n_small} {'is' if n_small == 1 else 'are'}: the tables"
        " mark them."
        if n_small
        else ""
    )
    if not worse:
        sentence = f"No slice of {MIN_SLICE_RIDES:,} rides or more is worse than the baseline on {months}."
        return paragraph(sentence + small)
    return join(
        paragraph(f"Worse than the baseline on {months}, of the slices of {MIN_SLICE_RIDES:,} rides or more:"),
        bullets(
            *(
                f"{each.name} (by {each.by}): RMSE {minutes(each.model.rmse_minutes)} against "
                f"{minutes(each.baseline.rmse_minutes)} minutes, {each.model.n_rides:,} rides"
                for each in worse
            )
        ),
        paragraph(small.strip()) if small else None,
    )


def _slice_table(kind: str, slices: list[SliceResult], result: MonthsResult) -> Html:
    has_intervals = any(each.coverage is not None for each in slices)
    rows = [
        (
            each.name,
            *error_cells(each.model),
            minutes(each.baseline.rmse_minutes),
            against(each.model.rmse_minutes, each.baseline.rmse_minutes),
            *((percent(each.coverage),) if has_intervals else ()),
        )
        for each in slices
    ]
    covered = ("covered",) if has_intervals else ()
    heads = (kind, "rides", "RMSE", "MAE", "bias", "baseline", "change", *covered)
    marked = [row for row, each in enumerate(slices) if each.model.rmse_minutes > each.baseline.rmse_minutes]
    return table(f"By {kind}, {', '.join(result.months)}, in minutes", heads, rows, kinds="wnnmm", marked=marked)


def _slice_caption(kind: str, slices: list[SliceResult], result: MonthsResult) -> str:
    caption = f"RMSE by {kind} on {', '.join(result.months)}, model and baseline."
    if is_by_number(slices) or all(each.model.n_rides >= MIN_SLICE_RIDES for each in slices):
        return caption
    return f"{caption} Hollow dots are slices of fewer than {MIN_SLICE_RIDES:,} rides."


def _number_of(rides: PredictedRides) -> str:
    months = ", ".join(rides.months)
    if len(rides) < rides.n_all:
        return f"{len(rides):,} of the {rides.n_all:,} rides of {months}, drawn at random."
    return f"All {len(rides):,} rides of {months}."
