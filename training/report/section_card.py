"""The model card: purpose, limits, how the model was made, the gate's verdict, and allowed breaches."""

import re

from lambda_function.core.bundle import Manifest
from training.data.labelled_rides import is_labelled
from training.evaluation.gate_rules import RuleResult
from training.report.drawing import Plots
from training.report.facts import ReportFacts
from training.report.html import Html, bullets, element, facts_list, join, paragraph, percent, table

TLC_DATA = "New York City Taxi and Limousine Commission (TLC), trip record data"
LABELLED_DATA = "labelled rides: the ride events of the stream, with their outcomes"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def purpose(facts: ReportFacts, _: Plots) -> Html:
    """Show the purpose and the limits of the model."""
    manifest = facts.manifest
    low, high = manifest.duration_range_minutes
    return join(
        paragraph(
            f"At pickup, the model estimates how many minutes a {manifest.service}-taxi ride in New York City will "
            "take. Its inputs are the two taxi zones, the expected distance, and the time and day. It predicts for a "
            "stream of ride events. Uses are arrival times for riders, fleet planning, and courses on running models."
        ),
        element("h3", "Not for"),
        bullets(
            "Fares, pricing, drivers' pay or the evaluation of people. The model has no data about money, and its "
            "errors differ between places.",
            "Decisions on whether, or to whom, a ride is offered.",
            f"Other cities, other services than {manifest.service} taxis, or months far from the training months "
            f"({_span(manifest)}): see Ageing.",
            "Any use where a late arrival endangers somebody.",
        ),
        element("h3", "Limits"),
        bullets(
            f"It is trained on rides of {low:g} to {high:g} minutes, and every prediction is in that range.",
            "A place is the centre of a TLC zone, so all places in one zone are equal.",
            "It has no data about traffic, weather, road works, closed streets or events.",
            "A distance of 0 or above 60 miles and the zones without a place (264, 265) count as missing. "
            "Predictions for such rides are less accurate.",
        ),
        element("h3", "People"),
        paragraph(
            "The records contain zones and times, but no riders and no drivers. Zones are neighbourhoods, and errors "
            "are larger where fewer rides start. Check the slices by borough and the map before you use predictions "
            "for a decision about a place."
        ),
        facts_list(
            [
                ("Made by", "the ridecast maintainers; code under the MIT licence"),
                ("Data", _data(manifest)),
            ]
        ),
    )


def made(facts: ReportFacts, _: Plots) -> Html:
    """Show version, months, digests, parameters and software."""
    manifest = facts.manifest
    n_kept = sum(source.n_kept for source in manifest.data)
    files = [(name, f"{file.n_bytes:,}", _digest(file.sha256)) for name, file in manifest.files.items()]
    sources = [
        (
            source.month,
            source.file,
            f"{source.n_rows:,}",
            f"{source.n_kept:,}",
            percent(source.n_kept / source.n_rows if source.n_rows else None),
            _digest(source.sha256),
        )
        for source in manifest.data
    ]
    return join(
        facts_list(
            [
                ("Version", element("code", manifest.model_version)),
                ("Manifest", _digest(facts.manifest_sha256)),
                ("Service", manifest.service),
                ("Trained on", f"{_span(manifest)}: {n_kept:,} rides"),
                ("Validated on", ", ".join(manifest.validate_months) or "no month"),
            ]
        ),
        paragraph(
            "A bundle contains no time of creation: the same months, parameters and software give the same bytes, and "
            "therefore the same version.",
            class_="note",
        ),
        table(
            f"Training months ({LABELLED_DATA if is_labelled(manifest) else TLC_DATA})",
            ("month", "file", "rows", "rides kept", "share kept", "SHA-256"),
            sources,
            kinds="twmnnt",
        ),
        element(
            "div",
            table("Parameters", ("parameter", "value"), list(manifest.parameters.items())),
            table("Software", ("package", "version"), _versions(manifest), kinds="tt"),
            class_="pair",
        ),
        table("Files of the bundle", ("file", "bytes", "SHA-256"), files, kinds="tnt"),
        facts_list([("Features, in order", ", ".join(manifest.feature_names))]),
    )


def gate(facts: ReportFacts, _: Plots) -> Html:
    """Show the gate's verdict, a line for each rule."""
    verdict = facts.verdict
    if verdict is None:
        command = f"ridecast models release --judge-only {facts.manifest.model_version}"
        return paragraph(f"Not gated yet. Run {command}.", class_="missing")
    champion = verdict.against or "the baseline, because the channel was empty"
    months = ", ".join(verdict.months) or "no month"
    return join(
        paragraph(
            element("span", "Passed", class_="pass") if verdict.passed else element("span", "Failed", class_="fail"),
            f" for the channel {verdict.channel}, against {champion}, on {months}.",
        ),
        element("ul", *(_rule(rule) for rule in verdict.rules), class_="rules"),
    )


def breaches(facts: ReportFacts, _: Plots) -> Html:
    """Show the breaches of the data contract that were allowed."""
    if not facts.breaches:
        return paragraph("None: the months meet the data contract.")
    return join(
        paragraph("The training or validation months break these rules of the data contract, and the run allowed it:"),
        bullets(*facts.breaches),
    )


def _span(manifest: Manifest) -> str:
    months = manifest.train_months
    return f"{months[0]} to {months[-1]}" if len(months) > 1 else "".join(months)


def _data(manifest: Manifest) -> str:
    if is_labelled(manifest):
        return f"{LABELLED_DATA}; kept for a limited time, because they are personal data"
    return f"{TLC_DATA}, published by TLC for the public; TLC guarantees neither the data nor this model"


def _versions(manifest: Manifest) -> list[tuple[str, object]]:
    """Return the software by name; a version that is a digest, like the lock file's, is shown as one."""
    return [(name, _digest(text) if _SHA256.fullmatch(text) else text) for name, text in manifest.software.items()]


def _digest(sha256: str) -> Html:
    """Show the beginning of a digest; the whole digest appears on hover and in print."""
    return element("code", sha256, class_="digest", title=sha256)


def _rule(rule: RuleResult) -> Html:
    if rule.passed and rule.is_warning:
        mark = element("span", "! warning", class_="warn")
    elif rule.passed:
        mark = element("span", "✓ pass", class_="pass")
    else:
        mark = element("span", "✗ fail", class_="fail")
    texts = element("div", element("b", rule.rule), element("p", rule.seen), element("p", f"wanted: {rule.wanted}"))
    return element("li", mark, texts)
