"""Tables, figures and numbers as markup: one way to write each."""

import re
from collections.abc import Collection, Sequence

from training.report.drawing import inline_svg
from training.report.html import Html, element, join

MINUS = "\N{MINUS SIGN}"
_WHOLE_PERCENT = 10
"""From here on a change is told in whole percent."""


def minutes(value: float) -> str:
    """Writes minutes.

    >>> minutes(3.98)
    '3.98'
    """
    return f"{value:.2f}"


def signed_minutes(value: float) -> str:
    """Writes minutes that may be too many or too few.

    >>> signed_minutes(-0.304), signed_minutes(0.001)
    ('\N{MINUS SIGN}0.30', '0.00')
    """
    text = f"{value:+.2f}"
    return "0.00" if text in {"+0.00", "-0.00"} else text.replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """Writes a share, 0 to 1, as a percentage.

    >>> percent(0.8049), percent(None)
    ('80.5 %', '\N{EN DASH}')
    """
    return "\N{EN DASH}" if share is None else f"{100 * share:.{digits}f} %"


def against(value: float, other: float) -> str:
    """Writes by how much a value lies above or below another; a rise is marked, for on errors it is for the worse.

    >>> against(4.0, 6.0), against(6.3, 6.0), against(6.0, 6.0)
    ('\N{MINUS SIGN}33 %', '▲ +5.0 %', '0.0 %')
    """
    if other <= 0:
        return "\N{EN DASH}"
    change = 100 * (value / other - 1)
    text = f"{change:+.{0 if abs(change) >= _WHOLE_PERCENT else 1}f} %".replace("-", MINUS)
    return "0.0 %" if text[1:] == "0.0 %" else f"▲ {text}" if value > other else text


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    kinds: str = "t",
    marked: Collection[int] = (),
) -> Html:
    """Builds a table that scrolls within its own box where the page is narrow.

    Args:
        caption: Says what it shows, to those too who do not see the page around it.
        heads: A name a column.
        rows: A cell a column; the first names the row.
        kinds: A letter a column, ``t`` for text and ``n`` for numbers, which align to the right; ``n`` where none is.
        marked: Numbers of the rows that stand out.
    """
    classes = ["text" if kind == "t" else "number" for kind in kinds.ljust(len(heads), "n")]
    head = join(*(element("th", name, scope="col", class_=class_) for name, class_ in zip(heads, classes, strict=True)))
    body = join(*(_row(row, classes, marked=number in marked) for number, row in enumerate(rows)))
    titled = element("caption", element("span", caption))  # the span stays in sight where the table scrolls
    whole = element("table", titled, element("thead", element("tr", head)), element("tbody", body))
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts_list(items: Sequence[tuple[str, object]]) -> Html:
    """Builds a list of names and what they are."""
    return element("dl", *(join(element("dt", name), element("dd", text)) for name, text in items), class_="facts")


def figure(svg: bytes, name: str, caption: str) -> Html:
    """Builds a figure of a plot, drawn as a part of the page, with the caption as its description."""
    identity = re.sub(r"[^a-z0-9]+", "-", name.lower())
    drawn = Html(inline_svg(svg, f"plot-{identity}", join(caption)))
    return element("figure", drawn, element("figcaption", caption))


def paragraph(*children: object, class_: str | None = None) -> Html:
    """Builds a paragraph."""
    return element("p", *children, class_=class_)


def bullets(*items: object) -> Html:
    """Builds a list."""
    return element("ul", *(element("li", item) for item in items))


def _row(cells: Sequence[object], classes: Sequence[str], *, marked: bool) -> Html:
    first, *others = (
        element("td" if number else "th", cell, class_=class_, scope=None if number else "row")
        for number, (cell, class_) in enumerate(zip(cells, classes, strict=True))
    )
    return element("tr", first, *others, class_="marked" if marked else None)
