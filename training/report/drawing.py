"""The style of every plot: colours, sizes, and SVG files whose bytes depend only on the facts."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Plots = Mapping[str, bytes]
"""SVG files by name, without the ending."""

INK, MUTED, GRID, PAGE = "#1c2024", "#5c636b", "#dfe3e7", "#fefefe"
MODEL, BASELINE, WORSE = "#0b62b5", "#8c929a", "#c4510c"
"""Distinct for colour-blind readers, and by lightness in print. `inline_svg` replaces all seven by page variables."""

MINUTES, SIGNED_MINUTES = "viridis", "PuOr"
"""Colour maps for the size of an error, and for an error with a sign."""

WIDTH_INCHES = 5.0
"""360 points: a phone shows a figure at full size, so a text of 9.5 points is legible."""

_POINTS = 9.5
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # texts stay texts: small, sharp, searchable
    "svg.hashsalt": "ridecast",
    "font.family": "DejaVu Sans",  # part of matplotlib, so text widths are equal on every machine
    "font.size": _POINTS,
    "axes.titlesize": _POINTS,
    "axes.labelsize": _POINTS,
    "xtick.labelsize": _POINTS,
    "ytick.labelsize": _POINTS,
    "legend.fontsize": _POINTS,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a dollar sign in a name stays one
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAGE: "--page",
    MODEL: "--model",
    BASELINE: "--baseline",
    WORSE: "--worse",
}


@contextmanager
def new_figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> Iterator[Figure]:
    """Yield an empty figure; inside the block our style replaces the machine's settings."""
    with rc_context():
        rcdefaults()
        rcParams.update(_STYLE)
        yield Figure(figsize=(width_inches, height_inches), layout="constrained")


def to_svg(figure: Figure) -> bytes:
    """Return a figure as a standalone SVG file. Call it inside `new_figure`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=220, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: _coarser(found[0]), text)
    return text.replace("'DejaVu Sans'", _FONTS).encode()


def inline_svg(svg: bytes, name: str, description: str) -> str:
    """Convert an SVG file of `to_svg` for use inside a page.

    Ids get the prefix `name`, because they repeat from file to file. Colours become the page's variables, so the plot
    follows light and dark mode. The style sheet is removed, because it would apply to the whole page.

    Args:
        svg: The file.
        name: Letters, digits and hyphens, unique in the page.
        description: The text for screen readers; markup-safe.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = _keep_used_ids(text, name).replace(f"font-family: {_FONTS}; ", "")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    _, _, rest = text.partition(">")
    view_box = re.search(r'viewBox="[^"]*"', text)
    box = view_box[0] if view_box else ""
    return f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box} role="img" aria-label="{description}">{rest}'


def legend_above(axes: Axes, n_columns: int = 2) -> None:
    """Put the legend above the plot, where it covers nothing."""
    axes.figure.legend(loc="outside upper left", ncols=n_columns, handlelength=1.4, columnspacing=1.6, borderpad=0.1)


def _coarser(attribute: str) -> str:
    """Cut coordinates to a hundredth of a point, and join their lines."""
    return re.sub(r"(?<=\d)(\.\d\d)\d+", r"\1", attribute).replace(" \n", " ").replace("\n", " ")


def _keep_used_ids(text: str, name: str) -> str:
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))

    def rewritten(found: re.Match[str]) -> str:
        return f' id="{name}-{found[1]}"' if found[1] in used else ""

    text = re.sub(r' id="([^"]+)"', rewritten, text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
