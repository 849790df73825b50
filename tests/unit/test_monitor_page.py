"""The monitoring page: what it shows of a bucket, and what it says where something is missing."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.builders_days import steady_days, without_intervals
from tests.builders_monitor_page import (
    FIRST_SERVED_DAY,
    N_QUIET_DAYS,
    day_figures_of,
    served_day,
    served_days,
    watched_bucket,
    watched_bundle,
)
from tests.builders_monitored import MonitoredStack
from tests.builders_report import AnyPlot, Elements
from tests.builders_status import group_status
from training.errors import BucketError
from training.model.bundle import REFERENCE
from training.monitoring.calibration.status import CalibrationStatus
from training.monitoring.monitor.day_figures import DayFigures, day_key
from training.monitoring.monitor.days import Days
from training.report.document import POLICY
from training.report.monitor_facts import MonitorFacts, Move
from training.report.monitor_page import SECTIONS, build_monitor_page
from training.report.monitor_plots import errors_by_day, records_by_day
from training.workflows.monitor_report import gather_monitor_facts, run_monitor_report

DAY = np.timedelta64(1, "D")
NASTY = "</td></title></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\x00\x1b\ud800"


class Silent:
    """Progress that nobody sees."""

    def step(self, text: str) -> None:
        """Forget a step."""

    def warn(self, text: str) -> None:
        """Forget a warning."""

    def progress(self, n_done: int, n_total: int) -> None:
        """Forget how much is done."""


@pytest.fixture(scope="module")
def facts() -> MonitorFacts:
    """Facts of a model that was quiet for 30 days, and changed."""
    return gather_monitor_facts(*watched_bucket())


@pytest.fixture(scope="module")
def page(facts: MonitorFacts) -> bytes:
    """The page of these facts, with its plots."""
    return build_monitor_page(facts)


def facts_of(days: list[DayFigures]) -> MonitorFacts:
    return gather_monitor_facts(*watched_bucket(days))


def page_of(facts: MonitorFacts) -> Elements:
    return Elements(build_monitor_page(facts, AnyPlot()).decode())


def section(page: str, anchor: str) -> str:
    page = page[page.index(f'<section id="{anchor}"') :]
    return page[: page.index("</section>")]


def test_page_has_every_section_in_order(facts: MonitorFacts) -> None:
    page = build_monitor_page(facts, AnyPlot()).decode()
    assert re.findall(r'<section id="([a-z]+)"', page) == [anchor for anchor, _, _ in SECTIONS]
    assert re.findall(r'<a href="#([a-z]+)">', page) == [anchor for anchor, _, _ in SECTIONS]


def test_errors_are_those_of_the_days_raw_and_served(facts: MonitorFacts) -> None:
    days, series = served_days(), facts.series
    assert (series.day == days.day).all()
    assert series.raw.rmse_minutes == pytest.approx(np.sqrt(days.sum_squared_error / days.n))
    assert series.served.rmse_minutes == pytest.approx(series.raw.rmse_minutes / 2)
    assert series.raw.bias_minutes == pytest.approx(days.sum_error / days.n)
    assert series.raw.coverage == pytest.approx(days.n_within / days.n)
    assert series.outcome_share == pytest.approx(10 / 11, abs=0.001)
    assert series.late_share == pytest.approx(6 / 2200)


def test_alarms_are_those_of_the_detectors_and_marked_in_the_tables(facts: MonitorFacts) -> None:
    assert facts.evidence
    alarms = {alarm.group: alarm for alarm in facts.evidence.alarms}
    assert set(alarms) == {"data", "performance"}
    assert all(alarm.day >= served_day(N_QUIET_DAYS).item() for alarm in alarms.values())
    page = build_monitor_page(facts, AnyPlot()).decode()
    assert f"{alarms['data'].day}</th>" in section(page, "evidence")
    assert section(page, "days").count('<tr class="marked">') == len({alarm.day for alarm in alarms.values()})


def test_evidence_is_that_of_the_status_which_the_monitor_wrote() -> None:
    stack = MonitoredStack()
    first = np.datetime64("2026-08-03")
    stack.store_days(Days.concat(steady_days(8, first=first), steady_days(12, first=first + 8 * DAY, shift=1.0)))
    stack.good_run()
    facts = gather_monitor_facts(stack.bucket, stack.status)
    assert facts.evidence
    data, performance = stack.status.groups
    assert (data.state, performance.state) == ("alarm", "ok")
    assert (facts.evidence.data[-1], facts.evidence.performance[-1]) == (data.evidence, performance.evidence)
    assert f"data since {data.since}" in page_of(facts).text


def test_acknowledged_alarm_begins_again(facts: MonitorFacts) -> None:
    bucket, status = watched_bucket()
    assert facts.evidence
    alarm = next(one for one in facts.evidence.alarms if one.group == "data")
    bucket.write(f"monitor/acknowledged/{status.model_version}/data-{alarm.day}.json", b"{}")
    again = gather_monitor_facts(bucket, status).evidence
    assert again
    row = again.days.tolist().index(alarm.day)
    assert again.data[row + 1] < facts.evidence.data[row + 1]


def test_today_is_compared_with_training_days_of_its_kind(facts: MonitorFacts) -> None:
    shape = next(one for one in facts.shapes if one.quantity == "trip_distance_miles")
    assert [each.sum() for each in (shape.reference, shape.week, shape.today)] == pytest.approx([1, 1, 1])
    assert shape.today[0] > 1.5 * shape.reference[0]
    assert shape.week[0] > 1.5 * shape.reference[0]


def test_first_day_is_named_as_not_whole_yet_and_the_status_to_the_minute(facts: MonitorFacts) -> None:
    status = msgspec.structs.replace(facts.status, last_day=None, written_at="2026-11-30T02:04:06.066108+00:00")
    page = page_of(replace(facts, status=status)).text
    assert "Today so far, not a whole day yet, beside training days of its kind" in page
    assert "status of 2026-11-30 02:04 UTC" in page


def test_slices_outcomes_and_rejects_are_of_the_last_28_days(facts: MonitorFacts) -> None:
    page = page_of(facts).text
    assert "JFK airport 61,600" in page
    assert "under 5 30,800 66.6 %" in page
    assert "rejects no_zone: 84; not_json: 112" in page


def test_slices_are_listed_worst_first() -> None:
    (day,) = day_figures_of(served_days(1, 0))
    small, large = (
        day.figures.by_slice["hour"]["08"],
        msgspec.structs.replace(day.figures.errors, served=day.figures.errors.raw),
    )
    by_slice = {"hour": {"08": small, "09": large}}
    text = page_of(facts_of(day_figures_of(served_days(1, 0), by_slice=by_slice))).text
    assert text.index("09 hour") < text.index("08 hour")


@pytest.mark.parametrize(
    ("anchor", "sentence"),
    [("errors", "No whole day"), ("evidence", "No whole day"), ("shapes", "No whole day"), ("slices", "No whole day")],
)
def test_section_without_days_says_so(anchor: str, sentence: str) -> None:
    page = build_monitor_page(facts_of([])).decode()
    assert sentence in section(page, anchor)


def test_model_without_reference_shows_errors_and_says_what_to_do() -> None:
    bundle = watched_bundle(has_reference=False)
    facts = gather_monitor_facts(*watched_bucket(day_figures_of(served_days(), counts={}), bundle))
    assert (facts.evidence, facts.shapes, dict(facts.bands)) == (None, (), {})
    page = build_monitor_page(facts).decode()
    assert "<svg" in section(page, "errors")
    assert "has no reference, so nothing is compared with training: train it again" in section(page, "evidence")


def test_damaged_reference_is_as_none() -> None:
    bucket, status = watched_bucket()
    bucket.write(f"models/{status.model_version}/{REFERENCE}", b"{}")
    assert gather_monitor_facts(bucket, status).evidence is None


def test_model_without_intervals_has_no_coverage() -> None:
    bundle = watched_bundle(has_intervals=False)
    facts = gather_monitor_facts(*watched_bucket(day_figures_of(without_intervals(served_days())), bundle))
    assert set(facts.bands) == {"rmse", "bias"}
    assert "% in interval" not in errors_by_day(facts).decode()


def test_frozen_calibration_and_what_to_run_are_said() -> None:
    frozen = CalibrationStatus(state="frozen", text="run `ridecast monitor status` again")
    page = build_monitor_page(gather_monitor_facts(*watched_bucket([], calibration=frozen))).decode()
    assert "Calibration is frozen, and the last one serves" in page
    assert "run <code>ridecast monitor status</code> again" in section(page, "state")


def test_one_day_is_drawn_with_its_date() -> None:
    plot = errors_by_day(facts_of(day_figures_of(served_days(1, 0))))
    assert f"{FIRST_SERVED_DAY.item():%d %b %Y}" in plot.decode()


def test_day_without_judged_rides_is_a_gap_and_not_today() -> None:
    days = day_figures_of(served_days(3, 0))
    nothing = {name: (0,) * len(counts) for name, counts in days[-1].figures.counts.items()}
    empty = day_figures_of(
        served_days(4, 0), counts=nothing, errors=type(days[0].figures.errors)(), n_judged=0, n_with_outcome=0
    )
    facts = facts_of([*days, empty[-1]])
    assert np.isnan(facts.series.raw.rmse_minutes[-1])
    assert facts.shapes[0].today.sum() == pytest.approx(1)
    assert "nan" not in page_of(facts).text.lower().split()
    assert errors_by_day(facts)
    assert records_by_day(facts.series)


def test_days_with_missing_hours_are_named_and_not_judged(facts: MonitorFacts) -> None:
    days = day_figures_of(served_days(3, 0))
    days[1] = msgspec.structs.replace(days[1], missing_hours=("2023-07-22T05", "2023-07-22T06"))
    found = facts_of(days)
    assert found.evidence
    assert found.evidence.days.tolist() == [days[0].day, days[2].day]
    assert f"Days with hours that are not joined: {days[1].day} (2 hours)" in page_of(found).text


def test_calibrations_that_follow_each_other_share_a_row(facts: MonitorFacts) -> None:
    at = datetime(2023, 7, 21, 5, tzinfo=UTC)
    moves = (Move(at, "v1", is_calibration=False), *(Move(at, f"v1+{n}", is_calibration=True) for n in range(3)))
    text = page_of(replace(facts, moves=(*moves, Move(at, "v2", is_calibration=False)))).text
    assert "v1+2 calibration, the last of 3" in text
    assert "v1+1" not in text
    assert "v2 model" in text


@pytest.mark.slow
def test_a_year_is_a_page_of_at_most_1_5_megabytes() -> None:
    assert len(build_monitor_page(facts_of(day_figures_of(served_days(300, 66))))) < 1_500_000


def test_hours_are_those_of_the_last_7_days(facts: MonitorFacts) -> None:
    assert [str(hour)[:10] for hour in facts.hours.hour] == [str(day) for day in facts.series.day[-7:]]
    assert facts.hours.raw_rmse == pytest.approx(facts.series.raw.rmse_minutes[-7:])


def test_damaged_day_is_named_with_the_remedy() -> None:
    bucket, status = watched_bucket()
    bucket.write(day_key(status.model_version or "", served_day(3).item()), b"{")
    with pytest.raises(BucketError, match=r"monitor/days/green-.*/2023-07-24.json is damaged .* delete it"):
        gather_monitor_facts(bucket, status)


def test_page_loads_nothing_from_elsewhere_and_describes_every_plot(page: bytes) -> None:
    elements = Elements(page.decode())
    links = [value for name, value in elements.attributes if name in {"href", "src", "xlink:href"}]
    assert all(value and value.startswith(("#", "data:")) for value in links)
    assert ("content", POLICY) in elements.attributes
    assert not {"script", "iframe", "object", "form"} & set(elements.names)
    assert elements.names.count("figure") == elements.names.count("figcaption") == elements.names.count("svg") == 12
    assert all(value for name, value in elements.attributes if name == "aria-label")


def test_hostile_texts_stay_texts() -> None:
    plain, nasty = (page_of(_facts_full_of(text)) for text in ("plain", NASTY))
    assert nasty.names == plain.names
    assert [name for name, _ in nasty.attributes] == [name for name, _ in plain.attributes]
    assert "<script>alert(1)</script>" in nasty.text


def _facts_full_of(text: str) -> MonitorFacts:
    """Return facts with a text in every place that comes from outside."""
    bucket, status = watched_bucket()
    facts = gather_monitor_facts(bucket, status)
    changed = msgspec.structs.replace(
        status,
        served_version=text,
        model_version=text,
        channel=text,
        written_at=text,
        groups=group_status("data", "alarm", text),
        missing=(text,),
        calibration=CalibrationStatus(text=text),
    )
    return replace(facts, status=changed, moves=(replace(facts.moves[0], served_version=text),))


def test_page_is_written_to_a_new_folder_and_equal_facts_give_equal_bytes(page: bytes, tmp_path: Path) -> None:
    output = tmp_path / "new" / "page.html"
    run_monitor_report(*watched_bucket(), output, Silent())
    assert output.read_bytes() == page
