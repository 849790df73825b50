"""The report as one HTML file without scripts, network access or external fonts. Equal facts give equal bytes."""

from collections.abc import Callable
from importlib.resources import files

from training.model.results import worse_than_baseline
from training.report import section_accuracy, section_behaviour, section_card
from training.report.drawing import Plots
from training.report.facts import ReportFacts
from training.report.html import Html, against, element, join, minutes, paragraph, percent
from training.report.plots import draw_plots

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser loads only what the page contains."""

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
    body = join(
        _header(facts),
        element("main", *(_section(section, facts, drawn) for section in SECTIONS)),
        element(
            "footer",
            paragraph(f"Rides: {section_card.TLC_DATA}. Written by ridecast for {facts.manifest.model_version}."),
        ),
    )
    return f"<!doctype html>\n{element('html', _head(facts), element('body', body), lang='en')}\n".encode()


def _head(facts: ReportFacts) -> Html:
    style = files("training.report").joinpath("style.css").read_text(encoding="utf-8")
    return element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", f"{facts.manifest.model_version}: report and model card"),
        element("style", Html(style)),
    )


def _header(facts: ReportFacts) -> Html:
    links = (element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in SECTIONS)
    return element(
        "header",
        paragraph("Model report and card", class_="kind"),
        element("h1", facts.manifest.model_version),
        paragraph(_summary(facts), class_="lead"),
        _tiles(facts),
        element("nav", element("ol", *links), aria_label="Contents"),
    )


def _summary(facts: ReportFacts) -> Html:
    manifest = facts.manifest
    n_rides = sum(source.n_kept for source in manifest.data)
    sentence = (
        f"Predicts how long {manifest.service}-taxi rides in New York City take. Trained on {n_rides:,} rides of "
    )
    return join(sentence, _months(manifest.train_months), "; measured on ", _months(manifest.validate_months), ".")


def _months(months: tuple[str, ...]) -> Html:
    """Format months, the first and last of many; no line breaks at a hyphen."""
    ends = months if len(months) <= 2 else (f"{months[0]} to {months[-1]}",)  # noqa: PLR2004
    shown = [element("span", text, class_="whole") for text in ends]
    return join(shown[0], *(join(" and ", each) for each in shown[1:])) if shown else Html("no month")


def _tiles(facts: ReportFacts) -> Html | None:
    tiles: list[tuple[str, str, str]] = []
    if facts.results:
        model, baseline = facts.results[0].model, facts.results[0].baseline
        change = against(model.rmse_minutes, baseline.rmse_minutes)
        tiles += [
            ("RMSE, minutes", minutes(model.rmse_minutes), f"{change}, baseline {minutes(baseline.rmse_minutes)}"),
            ("MAE, minutes", minutes(model.mae_minutes), f"baseline {minutes(baseline.mae_minutes)}"),
        ]
        n_worse = len(worse_than_baseline(facts.results[0]))
        tiles.append(("Slices worse", f"{n_worse}", f"than the baseline, of {len(facts.results[0].slices)}"))
        if facts.interval_level is not None:
            coverage = percent(facts.results[0].coverage)
            tiles.append(("Rides inside interval", coverage, f"{percent(facts.interval_level, 0)} wanted"))
    if facts.verdict is not None:
        tiles.append(("Gate", "Passed" if facts.verdict.passed else "Failed", f"for {facts.verdict.channel}"))
    tile = (
        element("div", element("dt", name), element("dd", value, element("small", note))) for name, value, note in tiles
    )
    return element("dl", *tile, class_="tiles") if tiles else None


def _section(section: Section, facts: ReportFacts, plots: Plots) -> Html:
    anchor, title, content = section
    heading = element("h2", title, id=f"{anchor}-title")
    return element("section", heading, content(facts, plots), id=anchor, aria_labelledby=f"{anchor}-title")
