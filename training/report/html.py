"""Markup that cannot be broken from outside: every text is escaped unless it came from here."""

import html
from typing import Any


class Html(str):
    """Markup that is safe to put into a page. Joining it to a text gives a text again, which is escaped again."""

    __slots__ = ()


def element(name: str, *children: object, **attributes: object) -> Html:
    """Builds an element.

    Args:
        name: The tag, written in the code and never taken from data.
        *children: Html as it is, anything else as escaped text; None is left out.
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
    """Puts children one after the other, escaped where they are not Html."""
    return Html(
        "".join(child if isinstance(child, Html) else _escape(child) for child in children if child is not None)
    )


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _escape(value: Any) -> str:
    """Escapes a text; what XML and HTML cannot hold (control characters, lone surrogates) becomes a question mark."""
    text = str(value)
    kept = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return html.escape(kept, quote=True)
