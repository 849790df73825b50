"""A panel's sheet of paper on the picture: where it lies, its title, and axes within it."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infra.dashboard.body import Panel
from training.report.drawing import GRID, INK, PAPER

GRID_COLUMNS = 24
"""CloudWatch's."""

INCHES_A_COLUMN, INCHES_A_ROW = 0.72, 0.58
TITLE_INCHES = 0.42
SMALL, LARGE = 8.0, 10.0
"""Points."""

_GAP_INCHES = 0.07
_MARGIN_INCHES = 0.12


class Card:
    """Lays a panel's sheet where the dashboard's body says: `n_rows` is the height of the whole grid."""

    def __init__(self, figure: Figure, panel: Panel, n_rows: int) -> None:
        self._figure = figure
        self._left = panel.x * INCHES_A_COLUMN + _GAP_INCHES
        self._bottom = (n_rows - panel.y - panel.height) * INCHES_A_ROW + _GAP_INCHES
        self._width = panel.width * INCHES_A_COLUMN - 2 * _GAP_INCHES
        self._height = panel.height * INCHES_A_ROW - 2 * _GAP_INCHES
        sheet = self.axes(0, 0, 0, 0)
        sheet.set(xticks=[], yticks=[], facecolor=PAPER)
        sheet.spines[:].set(visible=True, color=GRID)
        x, y = _MARGIN_INCHES / self._width, 1 - 0.5 * TITLE_INCHES / self._height
        sheet.text(x, y, panel.title, va="center", fontsize=LARGE, fontweight="bold", color=INK)

    def axes(self, left: float, right: float, top: float, bottom: float) -> Axes:
        """Makes axes so many inches within the sheet."""
        width, height = self._figure.get_size_inches()
        x, y = (self._left + left) / width, (self._bottom + bottom) / height
        w, h = (self._width - left - right) / width, (self._height - top - bottom) / height
        return self._figure.add_axes((x, y, w, h))

    def blank_axes(self) -> Axes:
        """Makes axes for text below the title: both run from 0 to 1."""
        axes = self.axes(_MARGIN_INCHES, _MARGIN_INCHES, TITLE_INCHES, _MARGIN_INCHES)
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axes.spines[:].set_visible(False)
        return axes
