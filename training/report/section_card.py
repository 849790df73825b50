"""The model card: what the model is for, what it is not for, where it ends, and whose work and data it is."""

import re

from lambda_function.core.bundle import Manifest
from training.report.facts import ReportFacts
from training.report.html import Html, element, join
from training.report.tables import bullets, facts_list, paragraph, percent, table

TLC_DATA = "New York City Taxi and Limousine Commission (TLC), trip record data"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def purpose(facts: ReportFacts) -> Html:
    """What it is for, and what not."""
    manifest = facts.manifest
    low, high = manifest.duration_range_minutes
    return join(
        paragraph(
            f"It estimates, at the moment of pickup, how many minutes a {manifest.service}-taxi ride in New York City "
            "will take: from the two taxi zones, the distance expected, and the time and day. It serves a stream of "
            "ride events: arrival times shown to riders, plans of a fleet, and courses that teach how to run models."
        ),
        element("h3", "Not for"),
        bullets(
            "Fares, pricing, drivers' pay or anybody's performance. It knows nothing of money, and its errors differ "
            "from place to place.",
            "Deciding whether a ride is offered or to whom.",
            f"Other cities, other services than {manifest.service} taxis, or months far from {_span(manifest)}, "
            "the last it has seen: look at how it ages.",
            "Anything where a late arrival endangers somebody.",
        ),
        element("h3", "Limits"),
        bullets(
            f"It has learnt from rides of {low:g} to {high:g} minutes, and predicts nothing outside of that.",
            "Places are the middles of TLC's zones: two ends within one zone look alike to it.",
            "It knows no traffic, weather, road works, closed streets or events of the day.",
            "A distance of 0 or above 60 miles and zones without a place (264, 265) count as missing. "
            "Such rides are predicted, less well.",
        ),
        element("h3", "People"),
        paragraph(
            "The records name zones and minutes, no rider and no driver. Yet zones are neighbourhoods, and where fewer "
            "rides start the model errs more: look at the slices by borough and at the map before you let it decide "
            "anything about a place."
        ),
        facts_list(
            [
                ("Made by", "the ridecast maintainers; code under the MIT licence"),
                ("Data", f"{TLC_DATA}, published by TLC for the public; TLC vouches neither for it nor for this model"),
            ]
        ),
    )


def made(facts: ReportFacts) -> Html:
    """Version, months, digests, parameters and software."""
    manifest = facts.manifest
    n_kept = sum(source.n_kept for source in manifest.data)
    files = [(name, f"{file.n_bytes:,}", _digest(file.sha256)) for name, file in manifest.files.items()]
    sources = [
        (source.month, source.file, f"{source.n_rows:,}", f"{source.n_kept:,}", _kept(source.n_kept, source.n_rows))
        for source in manifest.data
    ]
    return join(
        facts_list(
            [
                ("Version", element("code", manifest.model_version)),
                ("Manifest", _digest(facts.manifest_sha256)),
                ("Service", manifest.service),
                ("Learnt from", f"{_span(manifest)}: {n_kept:,} rides"),
                ("Measured on", ", ".join(manifest.validate_months) or "no month"),
                *facts.run.items(),
            ]
        ),
        paragraph(
            "A bundle carries no time of its making: the same months, parameters and software give the same bytes, and "
            "so the same version.",
            class_="note",
        ),
        table(
            f"Months learnt from ({TLC_DATA})",
            ("month", "file", "rows", "rides kept", "share kept", "SHA-256"),
            [(*cells, _digest(source.sha256)) for cells, source in zip(sources, manifest.data, strict=True)],
            kinds="ttnnnt",
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


def _span(manifest: Manifest) -> str:
    months = manifest.train_months
    return f"{months[0]} to {months[-1]}" if len(months) > 1 else "".join(months)


def _versions(manifest: Manifest) -> list[tuple[str, object]]:
    """Returns the software by name; a digest among the versions, like the lock file's, is shown as one."""
    return [(name, _digest(text) if _SHA256.fullmatch(text) else text) for name, text in manifest.software.items()]


def _kept(n_kept: int, n_rows: int) -> str:
    return percent(n_kept / n_rows if n_rows else None)


def _digest(sha256: str) -> Html:
    """Shows a digest's beginning, and the whole to whoever points at it or prints it."""
    return element("code", sha256, class_="digest", title=sha256)
