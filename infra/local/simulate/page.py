"""The timeline's page: one HTML file without scripts or network. Equal results give equal bytes."""

from infra.local.simulate.measure import Figures
from infra.local.simulate.result import SimulationResult
from infra.local.simulate.timeline import NARROW_INCHES, draw_timeline
from training.report.document import Tile, build_document, section, tiles
from training.report.html import Html, element, facts_list, figure, join, paragraph, percent, table

_CAPTION = (
    "Thick lines are means of 7 days, thin ones days. The course's forest and the first model never change. The last"
    " panel shows which models served, and the runs of the loop that trained one, with how they ended."
)


def build_page(result: SimulationResult) -> bytes:
    """Build the page, UTF-8."""
    drawn = draw_timeline(result, NARROW_INCHES)
    months = [one.period for one in result.months]
    title = f"{result.service.capitalize()} taxis, {months[0]} to {months[-1]}"
    return build_document(
        f"Simulation: {title}",
        element(
            "header",
            paragraph("A simulation of ridecast", class_="kind"),
            element("h1", title),
            paragraph(_lead(result), class_="lead"),
            tiles(_tiles(result)),
        ),
        element(
            "main",
            section("timeline", "Timeline", figure(drawn, "timeline", _CAPTION)),
            section("months", "By month", _months(result)),
            section("alarms", "Alarms", _alarms(result)),
            section("versions", "Versions that served", _moves(result)),
            section("loop", "Runs of the loop", _runs(result)),
            section("how", "How it was made", _how(result)),
        ),
        element("footer", paragraph("Written by ridecast simulate.")),
    )


def _lead(result: SimulationResult) -> str:
    where = "TLC's months" if result.data == "tlc" else "Made-up months with a planted shift"
    return (
        f"{where}: {result.n_rides:,} rides, hour by hour, through the functions that AWS runs. The first model learned"
        f" from {result.n_train_rides:,} rides of {result.train_months[0]} to {result.train_months[-1]}."
    )


def _tiles(result: SimulationResult) -> list[Tile]:
    audit = result.audit
    worst = max(result.months, key=lambda one: one.frozen_rmse or 0.0)
    promoted = sum(one.outcome == "promoted" for one in result.runs)
    return [
        ("RMSE served", _minutes(worst.served_rmse), f"{worst.period}, the first model's worst month"),
        ("RMSE frozen", _minutes(worst.frozen_rmse), f"{worst.period}, course {_minutes(worst.course_rmse)}"),
        ("Alarms", str(len(result.alarms)), "of data and performance"),
        ("Promotions", str(promoted), f"of {len(result.runs)} runs of the loop"),
        ("Lost", str(audit.n_lost), f"conflicting {audit.n_conflicting}, skewed {audit.n_skewed}"),
    ]


def _months(result: SimulationResult) -> Html:
    heads = ("month", "rides", "linear", "forest", "frozen", "served", "frozen in interval", "served in interval")
    rows = [_row(one) for one in result.months]
    return table("RMSE in minutes, and rides inside their interval; linear and forest are the course's", heads, rows)


def _row(one: Figures) -> tuple[str, ...]:
    errors = (one.linear_rmse, one.course_rmse, one.frozen_rmse, one.served_rmse)
    coverage = (percent(one.frozen_coverage), percent(one.served_coverage))
    return (one.period, f"{one.n_rides:,}", *map(_minutes, errors), *coverage)


def _alarms(result: SimulationResult) -> Html:
    if not result.alarms:
        return paragraph("No alarm sounded.")
    rows = [(_at(one.at), one.group, one.since or "", one.model_version) for one in result.alarms]
    return table("Alarms", ("at, UTC", "group", "changed since", "model"), rows, kinds="tttt")


def _moves(result: SimulationResult) -> Html:
    rows = [
        (
            _at(one.at),
            one.version,
            f"{one.why}, {one.n_moves} times until {_at(one.until)}" if one.n_moves > 1 else one.why,
            one.by,
        )
        for one in result.moves
    ]
    return table("Moves of the channel", ("at, UTC", "version", "what", "by"), rows, kinds="tttt")


def _runs(result: SimulationResult) -> Html:
    if not result.runs:
        return paragraph("The loop was off." if not result.retraining else "The loop never ran.")
    rows = [
        (_at(one.started_at), one.trigger, one.outcome or "goes on", one.candidate or "none", one.text)
        for one in result.runs
    ]
    return table("Runs", ("began, UTC", "trigger", "outcome", "candidate", "why"), rows, kinds="ttttt")


def _how(result: SimulationResult) -> Html:
    audit = result.audit
    return join(
        facts_list(
            [
                ("rides a month at most", f"{result.rides_a_month:,}"),
                ("seed", str(result.seed)),
                ("live calibration", "daily" if result.calibration else "off"),
                ("loop", "on" if result.retraining else "off"),
                ("hours joined", f"{audit.n_hours:,}"),
                ("rides with an outcome", f"{audit.n_labelled:,} of {audit.n_ride_events:,}"),
            ]
        )
    )


def _at(text: str) -> str:
    return text[:16].replace("T", " ")


def _minutes(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
