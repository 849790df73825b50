"""The report as one HTML file without scripts, network access or external fonts. Equal facts give equal bytes."""

from collections.abc import Callable

from training.evaluation.gate_rules import MIN_SLICE_RIDES
from training.model.results import worse_than_baseline
from training.report import section_accuracy, section_behaviour, section_card
from training.report.document import Tile, build_document, contents, section, tiles, whole
from training.report.drawing import Plots
from training.report.facts import ReportFacts
from training.report.html import Html, against, element, join, minutes, paragraph, percent
from training.report.plots import draw_plots

Section = tuple[str, str, Callable[[ReportFacts, Plots], Html]]

SECTIONS: tuple[Section, ...] = (
    ("purpose", "Purpose and limits", section_card.purpose),
    ("made", "How it was made", section_card.made),
    ("metrics", "Accuracy", section_accuracy.metrics),
    ("slices", "Error by slice", section_accuracy.slices),
    ("predicted", "Predicted and actual durations", section_accuracy.predicted),
    ("residuals", "Residuals", section_accuracy.residuals),
    ("intervals", "Prediction intervals", section_behaviour.intervals),
    ("importance", "Feature importance", section_behaviour.importance),
    ("map", "Errors by pickup zone", section_behaviour.error_map),
    ("ageing", "Ageing", section_behaviour.ageing),
    ("arrival", "Without a pickup time", section_accuracy.without_pickup_time),
    ("gate", "The gate's verdict", section_card.gate),
    ("breaches", "Allowed breaches of the data contract", section_card.breaches),
)
"""Anchor, heading and content of every section, in the order of the page."""


def build_report(facts: ReportFacts, plots: Plots | None = None) -> bytes:
    """Build the page, UTF-8.

    Args:
        facts: The content.
        plots: The result of `draw_plots` for these facts, if it exists already.
    """
    drawn = draw_plots(facts) if plots is None else plots
    written = f"Rides: {section_card.TLC_DATA}. Written by ridecast for {facts.manifest.model_version}."
    return build_document(
        f"{facts.manifest.model_version}: report and model card",
        _header(facts),
        element("main", *(section(anchor, title, content(facts, drawn)) for anchor, title, content in SECTIONS)),
        element("footer", paragraph(written)),
    )


def _header(facts: ReportFacts) -> Html:
    return element(
        "header",
        paragraph("Model report and card", class_="kind"),
        element("h1", facts.manifest.model_version),
        paragraph(_summary(facts), class_="lead"),
        tiles(_tiles(facts)),
        contents([(anchor, title) for anchor, title, _ in SECTIONS]),
    )


def _summary(facts: ReportFacts) -> Html:
    manifest = facts.manifest
    n_rides = sum(source.n_kept for source in manifest.data)
    sentence = (
        f"Predicts how long {manifest.service}-taxi rides in New York City take. Trained on {n_rides:,} rides of "
    )
    trained = join(sentence, _months(manifest.train_months))
    if not facts.results:
        return join(trained, "; validated on ", _months(manifest.validate_months), ".")
    months = _months(facts.results[0].months)
    if facts.is_headline_unseen:
        return join(trained, ". The figures are of ", months, ", which it has not seen.")
    return join(trained, ". The figures are of ", months, ", its validation months: no later month was local.")


def _months(months: tuple[str, ...]) -> Html:
    """Format months, the first and last of many; no line breaks at a hyphen."""
    ends = months if len(months) <= 2 else (f"{months[0]} to {months[-1]}",)  # noqa: PLR2004
    shown = [whole(text) for text in ends]
    return join(shown[0], *(join(" and ", each) for each in shown[1:])) if shown else Html("no month")


def _tiles(facts: ReportFacts) -> list[Tile]:
    shown: list[Tile] = []
    if facts.results:
        model, baseline = facts.results[0].model, facts.results[0].baseline
        change = against(model.rmse_minutes, baseline.rmse_minutes)
        shown += [
            ("RMSE, minutes", minutes(model.rmse_minutes), f"{change}, baseline {minutes(baseline.rmse_minutes)}"),
            ("MAE, minutes", minutes(model.mae_minutes), f"baseline {minutes(baseline.mae_minutes)}"),
        ]
        n_worse = len(worse_than_baseline(facts.results[0], MIN_SLICE_RIDES))
        n_large = sum(one.model.n_rides >= MIN_SLICE_RIDES for one in facts.results[0].slices)
        note = f"than the baseline, of {n_large} with {MIN_SLICE_RIDES:,} rides or more"
        shown.append(("Slices worse", f"{n_worse}", note))
        if facts.interval_level is not None:
            coverage = percent(facts.results[0].coverage)
            shown.append(("Rides inside interval", coverage, f"{percent(facts.interval_level, 0)} wanted"))
    if facts.verdict is not None:
        shown.append(("Gate", "Passed" if facts.verdict.passed else "Failed", f"for {facts.verdict.channel}"))
    return shown
