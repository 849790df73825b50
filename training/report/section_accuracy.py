"""The sections on errors: overall, by slice, ride by ride, and where events carry no pickup time."""

from collections.abc import Mapping

from training.evaluation.gate_rules import MIN_SLICE_RIDES as FEW_RIDES
from training.evaluation.gate_rules import RuleResult
from training.model.results import Measured, MonthsResult, SliceResult, worse_than_baseline
from training.report.facts import PredictedRides, PreviousModel, ReportFacts
from training.report.html import Html, element, join
from training.report.plots_rides import is_by_number
from training.report.tables import (
    against,
    bullets,
    figure,
    minutes,
    paragraph,
    percent,
    signed_minutes,
    table,
)

TITLES = {
    "hour": "Hour of pickup",
    "weekday": "Weekday",
    "boroughs": "Boroughs, from and to",
    "distance": "Distance",
    "airport": "Airports, from or to",
    "zone pair": "Zone pair, known from training or unseen",
}
"""What a kind of slice is called; one that is not here is called what it goes by."""

NOT_EVALUATED = "Not evaluated: this bundle holds no evaluation.json. Train it again with ridecast train."
NOT_PREDICTED = "Not drawn: the months it was measured on are not at hand. Set TLC_DATA_DIR, then run ridecast report."

Plots = Mapping[str, bytes]


def metrics(facts: ReportFacts, _: Plots) -> Html:
    """The model beside the baseline and the model before."""
    if not facts.results:
        return paragraph(NOT_EVALUATED, class_="missing")
    rows = [row for number, result in enumerate(facts.results) for row in _metric_rows(facts, result, first=not number)]
    return join(
        table(
            "Errors on months that the model has not learnt from, in minutes",
            ("months", "model", "rides", "RMSE", "MAE", "bias", "RMSE against the baseline's"),
            rows,
            kinds="tt",
        ),
        paragraph(
            "RMSE, the root mean square error, weighs the large errors; MAE, the mean absolute one, is that of the "
            "everyday ride; bias is above 0 where predictions are too long on the whole. The baseline is the MLOps "
            "Zoomcamp's linear model, fitted on the same rides.",
            class_="note",
        ),
        _previous_note(facts.previous),
    )


def slices(facts: ReportFacts, plots: Plots) -> Html:
    """Every kind of slice as plot and table, those worse than the baseline named first."""
    if not facts.results:
        return paragraph(NOT_EVALUATED, class_="missing")
    return join(*(_slices_of(result, plots, first=not number) for number, result in enumerate(facts.results)))


def predicted(facts: ReportFacts, plots: Plots) -> Html:
    """Predicted against actual."""
    if facts.rides is None:
        return paragraph(NOT_PREDICTED, class_="missing")
    caption = "A cell holds the rides of one minute by one minute; on the line, prediction and ride agree."
    return figure(plots["predicted_against_actual"], "predicted", f"{caption} {_of(facts.rides)}")


def residuals(facts: ReportFacts, plots: Plots) -> Html:
    """How errors are distributed, overall and as predictions grow."""
    if facts.rides is None:
        return paragraph(NOT_PREDICTED, class_="missing")
    drawn = [figure(plots["residuals"], "residuals", "How often predictions are off by how much, in half minutes.")]
    if "residuals_by_predicted" in plots:
        caption = (
            "The errors' middle and the range of eight in ten, by what is predicted. Long rides are the uncertain ones."
        )
        drawn.append(figure(plots["residuals_by_predicted"], "residuals-by-predicted", caption))
    return element("div", *drawn, class_="pair")


def without_pickup_time(facts: ReportFacts, _: Plots) -> Html:
    """What becomes of the error where the arrival stands in for the pickup."""
    if facts.evaluation is None or not facts.evaluation.without_pickup_time:
        return paragraph("Not measured: this bundle's evaluation.json does not say. Train it again.", class_="missing")
    whole = facts.evaluation.validate
    rows = [
        (each.arrival, *_errors(each.model), against(each.model.rmse_minutes, whole.model.rmse_minutes))
        for each in facts.evaluation.without_pickup_time
    ]
    return join(
        paragraph(
            "Events may carry no pickup time: then the moment at which the record arrives on the stream stands in for "
            f"it. With the pickup time, the RMSE on the same rides is {minutes(whole.model.rmse_minutes)} minutes."
        ),
        table(
            "Errors without a pickup time, by when events arrive, in minutes",
            ("arrival", "rides", "RMSE", "MAE", "bias", "RMSE against with pickup time"),
            rows,
        ),
    )


def by_kind(result: MonthsResult) -> dict[str, list[SliceResult]]:
    """Returns the slices by what they go by, in the order of the evaluation."""
    kinds: dict[str, list[SliceResult]] = {}
    for each in result.slices:
        kinds.setdefault(each.by, []).append(each)
    return kinds


def plot_name(result: MonthsResult, kind: str) -> str:
    """Names the plot of one kind of slice."""
    return f"slices_{kind.replace(' ', '_')}_{'_'.join(result.months)}"


def _metric_rows(facts: ReportFacts, result: MonthsResult, *, first: bool) -> list[tuple[object, ...]]:
    months, baseline = ", ".join(result.months), result.baseline.rmse_minutes
    rows: list[tuple[object, ...]] = [
        (months, element("b", "this model"), *_errors(result.model), against(result.model.rmse_minutes, baseline)),
        (months, "baseline", *_errors(result.baseline), ""),
    ]
    if first and facts.previous:
        errors = facts.previous.errors
        rows.insert(
            1,
            (
                months,
                f"before: {facts.previous.model_version}",
                *_errors(errors),
                against(errors.rmse_minutes, baseline),
            ),
        )
    return rows


def _errors(errors: Measured) -> tuple[str, str, str, str]:
    """Returns rides, RMSE, MAE and bias, as written."""
    return (
        f"{errors.n_rides:,}",
        minutes(errors.rmse_minutes),
        minutes(errors.mae_minutes),
        signed_minutes(errors.bias_minutes),
    )


def _previous_note(previous: PreviousModel | None) -> Html:
    if previous is None:
        return paragraph("No model before: this version has followed none in the channel stable.", class_="missing")
    if not previous.has_learnt:
        return paragraph(
            f"Neither {previous.model_version} nor this model has learnt from these months.", class_="note"
        )
    months = ", ".join(previous.has_learnt)
    return paragraph(f"{previous.model_version} has learnt from {months}: there its errors flatter it.", class_="note")


def _slices_of(result: MonthsResult, plots: Plots, *, first: bool) -> Html:
    """Shows the slices of some months; of all but the first months their tables alone, folded away."""
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
    months, worse = ", ".join(result.months), worse_than_baseline(result)
    if not worse:
        return paragraph(f"No slice of {months} is worse than the baseline.")
    return join(
        paragraph(f"Worse than the baseline on {months}:"),
        bullets(
            *(
                f"{each.name} (by {each.by}): RMSE {minutes(each.model.rmse_minutes)} against "
                f"{minutes(each.baseline.rmse_minutes)} minutes, {each.model.n_rides:,} rides"
                for each in worse
            )
        ),
    )


def _slice_table(kind: str, slices: list[SliceResult], result: MonthsResult) -> Html:
    has_intervals = any(each.coverage is not None for each in slices)
    rows = [
        (
            each.name,
            *_errors(each.model),
            minutes(each.baseline.rmse_minutes),
            against(each.model.rmse_minutes, each.baseline.rmse_minutes),
            *((percent(each.coverage),) if has_intervals else ()),
        )
        for each in slices
    ]
    heads = (
        kind,
        "rides",
        "RMSE",
        "MAE",
        "bias",
        "baseline",
        "change",
        *(("covered",) if has_intervals else ()),
    )
    marked = [row for row, each in enumerate(slices) if each.model.rmse_minutes > each.baseline.rmse_minutes]
    return table(f"By {kind}, {', '.join(result.months)}, in minutes", heads, rows, marked=marked)


def _slice_caption(kind: str, slices: list[SliceResult], result: MonthsResult) -> str:
    caption = f"RMSE by {kind} on {', '.join(result.months)}, the model beside the baseline."
    if is_by_number(slices) or all(each.model.n_rides >= FEW_RIDES for each in slices):
        return caption
    return f"{caption} Hollow dots are slices of fewer than {FEW_RIDES:,} rides."


def _of(rides: PredictedRides) -> str:
    months = ", ".join(rides.months)
    if len(rides) < rides.n_all:
        return f"{len(rides):,} of the {rides.n_all:,} rides of {months}, drawn at random."
    return f"All {len(rides):,} rides of {months}."


# MERGED FROM training/report/decisions.py
# The sections on what was decided: the gate's verdict, and what was allowed knowingly.
def gate(facts: ReportFacts) -> Html:
    """The gate's verdict, a rule a line."""
    verdict = facts.verdict
    if verdict is None:
        return paragraph("Not gated yet: ridecast models gate ", facts.manifest.model_version, class_="missing")
    opponent = verdict.against or "the baseline, the channel being empty"
    months = ", ".join(verdict.months) or "no month"
    return join(
        paragraph(
            element("span", "Passed", class_="pass") if verdict.passed else element("span", "Failed", class_="fail"),
            f" for the channel {verdict.channel}, against {opponent}, on {months}.",
        ),
        element("ul", *(_rule(rule) for rule in verdict.rules), class_="rules"),
    )


def breaches(facts: ReportFacts) -> Html:
    """What the data contract forbids and somebody allowed."""
    if not facts.breaches:
        return paragraph("Nothing: no breach of the data contract was recorded.")
    return join(
        paragraph("The training months break these rules of the data contract. Somebody went on, knowing it:"),
        bullets(*facts.breaches),
    )


def _rule(rule: RuleResult) -> Html:
    mark = element("span", "✓ pass", class_="pass") if rule.passed else element("span", "✗ fail", class_="fail")
    texts = element("div", element("b", rule.rule), element("p", rule.seen), element("p", f"wanted: {rule.wanted}"))
    return element("li", mark, texts)
