"""The report as one HTML file: no script, no network, no font from elsewhere; the same facts give the same bytes."""

from collections.abc import Callable, Mapping
from importlib.resources import files

from training.model.results import worse_than_baseline
from training.report import section_accuracy, section_behaviour, section_card
from training.report.facts import ReportFacts
from training.report.html import Html, element, join
from training.report.plots import draw_plots
from training.report.tables import against, minutes, paragraph, percent

REPORT = "report.html"
"""The file's name beside a bundle."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing but what is in it."""

Plots = Mapping[str, bytes]
Section = tuple[str, str, Callable[[ReportFacts, Plots], Html]]

SECTIONS: tuple[Section, ...] = (
    ("purpose", "What it is for, and what not", lambda facts, _: section_card.purpose(facts)),
    ("made", "How it was made", lambda facts, _: section_card.made(facts)),
    ("metrics", "How far off it is", section_accuracy.metrics),
    ("slices", "Error by slice", section_accuracy.slices),
    ("predicted", "Predicted against actual", section_accuracy.predicted),
    ("residuals", "Residuals", section_accuracy.residuals),
    ("intervals", "Prediction intervals", section_behaviour.intervals),
    ("importance", "What it looks at", section_behaviour.importance),
    ("map", "Where in New York it errs", section_behaviour.error_map),
    ("ageing", "How it ages", section_behaviour.ageing),
    ("arrival", "Without a pickup time", section_accuracy.without_pickup_time),
    ("gate", "The gate's verdict", lambda facts, _: section_accuracy.gate(facts)),
    ("breaches", "Allowed knowingly", lambda facts, _: section_accuracy.breaches(facts)),
)
"""Anchor, heading and content of every section, in the order of the page."""


def build_report(facts: ReportFacts, plots: Plots | None = None) -> bytes:
    """Builds the page, UTF-8.

    Args:
        facts: What it shows.
        plots: `draw_plots` of the same facts, where they are drawn already.
    """
    drawn = draw_plots(facts) if plots is None else plots
    body = join(
        _header(facts),
        element("main", *(_section(section, facts, drawn) for section in SECTIONS)),
        element(
            "footer", paragraph(f"Rides: {section_card.TLC_DATA}. Made by ridecast for {facts.manifest.model_version}.")
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
        f"Predicts how long {manifest.service}-taxi rides in New York City take. Learnt from {n_rides:,} rides of "
    )
    return join(sentence, _months(manifest.train_months), "; measured on ", _months(manifest.validate_months), ".")


def _months(months: tuple[str, ...]) -> Html:
    """Names months, the first and last of many; none is broken at its hyphen."""
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
            tiles.append(("Rides inside interval", coverage, f"{percent(facts.interval_level, 0)} promised"))
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
