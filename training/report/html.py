"""Markup of the page: elements, tables, figures and numbers. Every text is escaped unless this module built it."""

import html
import re
from collections.abc import Collection, Sequence
from typing import Any

from training.report.drawing import inline_svg

MINUS = "\N{MINUS SIGN}"
_CLASSES = {"t": "text", "w": "text wrap", "n": "number", "m": "number minor"}
_WHOLE_PERCENT = 10
"""From this value on, a change has no decimals."""


class Html(str):
    """Markup that is safe in a page. Adding it to a text gives a text again, which is then escaped."""

    __slots__ = ()


def element(name: str, *children: object, **attributes: object) -> Html:
    """Build an element.

    Args:
        name: The tag; never taken from data.
        *children: Html is used as it is, anything else is escaped; None is left out.
        **attributes: A trailing underscore is dropped, others become hyphens; None leaves the attribute out.

    >>> element("p", "a < b", element("b", "!"), class_="note")
    '<p class="note">a &lt; b<b>!</b></p>'
    """
    written = "".join(
        f' {_attribute(key)}="{_escape(value)}"' for key, value in attributes.items() if value is not None
    )
    inside = join(*children)
    return Html(f"<{name}{written}>{inside}</{name}>")


def join(*children: object) -> Html:
    """Concatenate children; escape those that are not Html."""
    return Html(
        "".join(child if isinstance(child, Html) else _escape(child) for child in children if child is not None)
    )


def minutes(value: float) -> str:
    """Format minutes.

    >>> minutes(3.98)
    '3.98'
    """
    return f"{value:.2f}"


def signed_minutes(value: float) -> str:
    """Format minutes with a sign.

    >>> signed_minutes(-0.304), signed_minutes(0.001)
    ('\N{MINUS SIGN}0.30', '0.00')
    """
    text = f"{value:+.2f}"
    return "0.00" if text in {"+0.00", "-0.00"} else text.replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share, 0 to 1, as a percentage.

    >>> percent(0.8049), percent(None)
    ('80.5 %', '\N{EN DASH}')
    """
    return "\N{EN DASH}" if share is None else f"{100 * share:.{digits}f} %"


def against(value: float, other: float) -> str:
    """Format the relative change of an error against another; ▲ marks a rise, which is worse.

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
    """Build a table that scrolls in its own box if the page is narrow.

    Args:
        caption: The title; also read by screen readers.
        heads: The names of the columns.
        rows: The cells; the first cell names the row.
        kinds: A letter for each column: ``t`` for text, ``w`` for text that may be wrapped, ``n`` for numbers, which
            align to the right, ``m`` for numbers that a phone leaves out. Default ``n``.
        marked: Numbers of the highlighted rows.
    """
    classes = [_CLASSES[kind] for kind in kinds.ljust(len(heads), "n")]
    head = join(*(element("th", name, scope="col", class_=class_) for name, class_ in zip(heads, classes, strict=True)))
    body = join(*(_row(row, classes, marked=number in marked) for number, row in enumerate(rows)))
    titled = element("caption", element("span", caption))  # the span stays visible while the table scrolls
    whole = element("table", titled, element("thead", element("tr", head)), element("tbody", body))
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts_list(items: Sequence[tuple[str, object]]) -> Html:
    """Build a list of names and values."""
    return element("dl", *(join(element("dt", name), element("dd", text)) for name, text in items), class_="facts")


def figure(svg: bytes, name: str, caption: str) -> Html:
    """Build a figure of a plot inside the page, with the caption as its description."""
    identity = re.sub(r"[^a-z0-9]+", "-", name.lower())
    drawn = Html(inline_svg(svg, f"plot-{identity}", join(caption)))
    return element("figure", drawn, element("figcaption", caption))


def paragraph(*children: object, class_: str | None = None) -> Html:
    """Build a paragraph."""
    return element("p", *children, class_=class_)


def bullets(*items: object) -> Html:
    """Build a list."""
    return element("ul", *(element("li", item) for item in items))


def _row(cells: Sequence[object], classes: Sequence[str], *, marked: bool) -> Html:
    first, *others = (
        element("td" if number else "th", cell, class_=class_, scope=None if number else "row")
        for number, (cell, class_) in enumerate(zip(cells, classes, strict=True))
    )
    return element("tr", first, *others, class_="marked" if marked else None)


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _escape(value: Any) -> str:
    """Escape a text; characters that HTML does not allow (control characters, lone surrogates) become U+FFFD."""
    text = str(value)
    kept = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return html.escape(kept, quote=True)
