"""One HTML file without scripts, network access or external fonts: what every page of ridecast begins with."""

from collections.abc import Sequence
from importlib.resources import files

from training.report.html import Html, element

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser loads only what the page contains."""

Tile = tuple[str, str, str]
"""A name, a value, and a note below."""


def build_document(title: str, *children: object) -> bytes:
    """Build a page, UTF-8, of a title and the children of its body."""
    return f"<!doctype html>\n{element('html', _head(title), element('body', *children), lang='en')}\n".encode()


def section(anchor: str, title: str, content: Html) -> Html:
    """Build a section with its heading, which the contents link to."""
    heading = element("h2", title, id=f"{anchor}-title")
    return element("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")


def contents(sections: Sequence[tuple[str, str]]) -> Html:
    """Build the contents: links to sections, by anchor and title."""
    links = (element("li", element("a", title, href=f"#{anchor}")) for anchor, title in sections)
    return element("nav", element("ol", *links), aria_label="Contents")


def tiles(shown: Sequence[Tile]) -> Html | None:
    """Build a row of figures; None without any."""
    tile = (
        element("div", element("dt", name), element("dd", value, element("small", note))) for name, value, note in shown
    )
    return element("dl", *tile, class_="tiles") if shown else None


def _head(title: str) -> Html:
    style = files("training.report").joinpath("style.css").read_text(encoding="utf-8")
    return element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Html(style)),
    )


def whole(text: str) -> Html:
    """Return a text that has no line break inside."""
    return element("span", text, class_="whole")
