"""Names and texts of monitored quantities for people: in the terminal, and on the monitoring page."""

from typing import NamedTuple

from training.monitoring.monitor.quantities import MINUTE_OF_DAY, PLAIN_NAMES, UNITS, time_of_day
from training.monitoring.monitor.status import Latest
from training.report.html import MINUS

NO_VALUE = "\N{EN DASH}"
_WHOLE, _SMALL = 10.0, 0.1


class Named(NamedTuple):
    """A quantity's name for people and its unit; `is_share` values run from 0 to 1 and are shown in percent."""

    name: str
    unit: str = ""
    is_share: bool = False
    is_signed: bool = False


NAMES = {
    **{quantity: Named(name, UNITS[quantity]) for quantity, name in PLAIN_NAMES.items()},
    MINUTE_OF_DAY: Named(PLAIN_NAMES[MINUTE_OF_DAY]),  # shown as a clock shows it
    "bias": Named("bias", "minutes", is_signed=True),
    "mse": Named("MSE", "minutes²"),
    "rmse": Named("RMSE", "minutes"),
    "mae": Named("MAE", "minutes"),
    "coverage": Named("rides in interval", is_share=True),
}
"""By the quantity's name in code."""


def named(quantity: str) -> Named:
    """Return a quantity's name; a quantity that is not in NAMES keeps its own.

    >>> named("straight_line_miles").name, named("rmse_raw").name, named("new_one").name
    ('straight line', 'RMSE (raw)', 'new one')
    """
    if quantity in NAMES:
        return NAMES[quantity]
    base, _, kind = quantity.rpartition("_")
    known = NAMES.get(base, Named(quantity.replace("_", " ")))
    return known._replace(name=f"{known.name} ({kind})") if base in NAMES else known


def label(quantity: str) -> str:
    """Return a quantity's name with its unit.

    >>> label("predicted_minutes"), label("minute_of_day")
    ('prediction, minutes', 'time of day')
    """
    one = named(quantity)
    return f"{one.name}, {one.unit}" if one.unit else one.name


def value_text(quantity: str, value: float | None) -> str:
    """Return a quantity's value for people.

    >>> value_text("minute_of_day", 845.4), value_text("coverage", 0.8049), value_text("mse", None)
    ('14:05', '80.5 %', '\N{EN DASH}')
    >>> value_text("bias", -0.3), value_text("bias", -0.001), value_text("predicted_minutes", 11.25)
    ('\N{MINUS SIGN}0.30', '0.00', '11.25')
    """
    if value is None:
        return NO_VALUE
    if quantity == MINUTE_OF_DAY:
        return time_of_day(value)
    one = named(quantity)
    if one.is_share:
        return f"{100 * value:.1f} %"
    text = f"{value:{'+' if one.is_signed else ''}.2f}"
    return "0.00" if text in {"+0.00", "-0.00"} else text.replace("-", MINUS)


def range_text(quantity: str, low: float | None, high: float | None) -> str:
    """Return a range of values for people.

    >>> range_text("bias", -0.3, 0.2), range_text("coverage", 0.752, 0.8), range_text("mse", None, None)
    ('\N{MINUS SIGN}0.30 to +0.20', '75.2 to 80.0 %', '\N{EN DASH}')
    """
    if low is None or high is None:
        return NO_VALUE
    return f"{value_text(quantity, low).removesuffix(' %')} to {value_text(quantity, high)}"


def latest_text(latest: Latest) -> str:
    """Return the errors of the hours after the last whole day in a sentence.

    >>> latest_text(Latest(first="2026-08-01T04", last="2026-08-01T09", n_hours=6, n_rides=9, n_judged=0))
    'Not judged yet: 9 rides of 2026-08-01T04 to 2026-08-01T09 UTC, 0 of them with an outcome that counts.'
    """
    rides = f"{latest.n_rides:,} rides of {latest.first} to {latest.last} UTC"
    text = f"Not judged yet: {rides}, {latest.n_judged:,} of them with an outcome that counts"
    if latest.rmse_served is None or latest.rmse_raw is None:
        return f"{text}."
    return f"{text}; RMSE {latest.rmse_served:.2f} minutes served, {latest.rmse_raw:.2f} raw."


def evidence_text(evidence: float) -> str:
    """Return an evidence value for people.

    >>> [evidence_text(value) for value in (0.03, 0.8, 12.3, 4521.0)]
    ['<0.1', '0.8', '12', '4,521']
    """
    if evidence < _SMALL:
        return "<0.1"
    return f"{evidence:.1f}" if evidence < _WHOLE else f"{evidence:,.0f}"
