"""The report: its page, missing parts, escaping, plots, and the facts that it measures."""

import html
import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.output import worse_slices
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import FEATURE_NAMES, FIRST_ZONE, LAST_ZONE
from lambda_function.core.forest import Forest
from tests.builders import FEBRUARY, JANUARY, small_bundle, stump_arrays
from tests.builders_report import (
    OTHER_VERSION,
    SVG,
    AnyPlot,
    Elements,
    bare_facts,
    evaluation,
    gate_report,
    manifest,
    measured,
    months_result,
    predicted_rides,
    slice_result,
    whole_facts,
)
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle
from training.model.results import EVALUATION, encode_evaluation
from training.report.document import POLICY
from training.report.drawing import inline_svg
from training.report.facts import PreviousModel, ReportFacts, find_outlines, gather_facts, read_outlines
from training.report.html import Html, element, join
from training.report.measures import by_pickup_zone, by_predicted_duration, feature_importance, sample_rides
from training.report.page import SECTIONS, build_report
from training.report.plots import draw_plots
from training.report.zones import zone_name

NASTY = "</td></title></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\x00\x1b\ud800"


def page_of(facts: ReportFacts) -> Elements:
    return Elements(build_report(facts, AnyPlot()).decode())


@pytest.fixture(scope="module")
def bare_page() -> str:
    """Return the page of a bundle without evaluation, verdict, intervals or later months, and of few rides."""
    return build_report(bare_facts(rides=predicted_rides(10))).decode()


def test_page_has_every_section_in_order() -> None:
    page = build_report(whole_facts(), AnyPlot()).decode()
    headings = re.findall(r'<section id="([a-z]+)" aria-labelledby="[a-z]+-title"><h2[^>]*>([^<]+)</h2>', page)
    assert headings == [(anchor, html.escape(title)) for anchor, title, _ in SECTIONS]
    assert re.findall(r'<a href="#([a-z]+)">', page) == [anchor for anchor, _, _ in SECTIONS]


@pytest.mark.parametrize(
    ("anchor", "sentence"),
    [
        ("metrics", "Train the model again with ridecast train"),
        ("slices", "Train the model again with ridecast train"),
        ("intervals", "has no intervals"),
        ("map", "no zone has 20 rides or more"),
        ("ageing", "ridecast backtest --service green"),
        ("arrival", "Train the model again"),
        ("gate", "Not gated yet. Run ridecast models release --judge-only green-2021-01-"),
        ("breaches", "the months meet the data contract"),
    ],
)
def test_section_of_a_missing_part_names_the_command(bare_page: str, anchor: str, sentence: str) -> None:
    section = bare_page[bare_page.index(f'id="{anchor}"') :]
    assert sentence in section[: section.index("</section>")]


def test_slices_worse_than_the_baseline_are_listed_and_marked() -> None:
    worse, better = slice_result("airport", "JFK", 6.2), slice_result("airport", "Newark", 5.8)
    page = build_report(whole_facts(evaluation=evaluation(worse, better)), AnyPlot()).decode()
    assert "JFK (by airport): RMSE 6.20 against 6.00 minutes, 2,000 rides" in page
    assert "Newark (by airport)" not in page
    assert '<tr class="marked"><th class="text wrap" scope="row">JFK</th>' in page
    assert '<tr class="marked"><th class="text wrap" scope="row">Newark</th>' not in page


def test_small_slices_that_are_worse_are_marked_and_not_counted() -> None:
    slices = slice_result("airport", "JFK", 6.2, n_rides=999), slice_result("airport", "Newark", 5.8, n_rides=1000)
    page = page_of(whole_facts(evaluation=evaluation(*slices)))
    assert "Slices worse 0 than the baseline, of 1 with 1,000 rides or more" in page.text
    assert "Of the smaller ones, in which chance decides more, 1 is: the tables mark them." in page.text
    assert worse_slices(months_result(*slices), 5) == "none of 1,000 rides or more, and 1 of fewer"


def test_zones_with_the_largest_errors_have_their_names() -> None:
    assert "74 East Harlem North Manhattan" in page_of(whole_facts()).text
    assert len({zone_name(zone) for zone in range(FIRST_ZONE, LAST_ZONE + 1)}) > 255


def test_previous_model_is_shown_between_model_and_baseline_with_its_training_months() -> None:
    text = page_of(whole_facts(previous=PreviousModel(OTHER_VERSION, measured(4.5), ("2021-02",)))).text
    assert text.index("this model 2,000 4.00") < text.index(f"previous: {OTHER_VERSION}")
    assert f"{OTHER_VERSION} was trained on 2021-02. Its errors" in text


def test_failed_verdict_has_a_line_for_each_rule() -> None:
    text = page_of(whole_facts(verdict=gate_report(passed=False))).text
    assert "Failed for the channel stable" in text
    assert "✓ pass size" in text
    assert "✗ fail coverage" in text


def test_headline_is_the_unseen_month_where_there_is_one() -> None:
    validated = evaluation()
    only_validated = msgspec.structs.replace(validated, test=None)
    unseen = msgspec.structs.replace(months_result(months=("2021-04",)), model=measured(4.44))
    text = page_of(whole_facts(evaluation=only_validated, unseen=unseen)).text
    assert "The figures are of 2021-04 , which it has not seen." in text
    assert text.index("4.44") < text.index("2021-02 this model")
    text = page_of(whole_facts(evaluation=only_validated)).text
    assert "The figures are of 2021-02 , its validation months: no later month was local." in text


def test_warning_of_the_gate_is_shown_as_one() -> None:
    verdict = gate_report()
    warned = msgspec.structs.replace(verdict.rules[1], is_warning=True)
    verdict = msgspec.structs.replace(verdict, rules=(verdict.rules[0], warned))
    text = page_of(whole_facts(verdict=verdict)).text
    assert "Passed for the channel stable" in text
    assert "! warning coverage" in text


def test_page_loads_nothing_from_elsewhere() -> None:
    page = page_of(whole_facts())
    links = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    assert all(value and value.startswith(("#", "data:")) for value in links)
    assert ("content", POLICY) in page.attributes
    assert not {"script", "iframe", "object", "form"} & set(page.names)
    assert "@import" not in "".join(page.texts)
    assert "url(" not in "".join(page.texts)


def test_every_plot_is_described() -> None:
    page = page_of(whole_facts())
    described = [value for name, value in page.attributes if name == "aria-label"]
    assert page.names.count("figure") == page.names.count("figcaption") == page.names.count("svg") > 10
    assert all(described)


def test_hostile_texts_stay_texts() -> None:
    plain, nasty = (page_of(_facts_full_of(text)) for text in ("plain", NASTY))
    assert nasty.names == plain.names
    assert [name for name, _ in nasty.attributes] == [name for name, _ in plain.attributes]
    assert "<script>alert(1)</script>" in nasty.text


def _facts_full_of(text: str) -> ReportFacts:
    """Return facts with a text in every place that comes from outside."""
    return whole_facts(
        manifest=manifest(
            model_version=text, service=text, train_months=(text,), parameters={text: text}, software={text: text}
        ),
        manifest_sha256=text,
        evaluation=evaluation(slice_result(text, text, 9.0)),
        previous=PreviousModel(text, measured(), (text,)),
        verdict=gate_report(channel=text),
        breaches=(text,),
    )


@given(text=st.text(), attribute=st.text())
def test_any_text_is_read_back_as_text(text: str, attribute: str) -> None:
    read = Elements(element("p", text, title=attribute))
    assert read.names == ["p"]
    assert "".join(read.texts) == _printable(text)
    assert read.attributes == [("title", _printable(attribute))]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def test_markup_joined_to_a_text_is_a_text_again() -> None:
    assert join(Html("<b>") + "<i>") == "&lt;b&gt;&lt;i&gt;"


def test_plots_in_one_page_share_no_ids_and_follow_its_colours() -> None:
    svg = SVG.replace(b"<path", b'<path id="m1" style="fill: #0b62b5" clip-path="url(#m1)"')
    one, other = inline_svg(svg, "one", "A"), inline_svg(svg, "other", "B")
    assert 'id="one-m1"' in one
    assert "url(#one-m1)" in one
    assert 'id="other-m1"' in other
    assert "fill: var(--model)" in one


def test_same_facts_give_the_same_bytes_and_no_more_than_3_mb() -> None:
    page = build_report(whole_facts())
    assert page == build_report(whole_facts())
    assert len(page) < 3_000_000


def test_names_of_slices_with_characters_that_fonts_lack_are_drawn() -> None:
    slices = (slice_result("$kind$", "$\\frac</svg>\x00\u4e2d"), slice_result("$kind$", "é" * 99))
    plots = draw_plots(bare_facts(evaluation=evaluation(*slices), interval_level=0.8))
    assert all(b"</svg>" not in plot.strip().removesuffix(b"</svg>") for plot in plots.values())


def test_predicted_durations_fall_into_bins_of_five_minutes() -> None:
    predicted = np.repeat([2.0, 7.0, 12.0], [60, 49, 60])
    rides = predicted_rides(len(predicted), predicted_minutes=predicted, actual_minutes=predicted - 1.0)
    first, second = by_predicted_duration(rides)
    assert (first.low_minutes, first.n_rides, first.error_minutes) == (0.0, 60, (1.0, 1.0, 1.0))
    assert second.low_minutes == 10.0  # 49 rides are too few for a bin


def test_coverage_of_a_bin_counts_both_ends_of_the_interval() -> None:
    predicted, actual = np.full(60, 12.0), np.repeat([10.0, 14.0, 14.1], 20)
    ends = np.full(60, 10.0), np.full(60, 14.0)
    rides = predicted_rides(60, predicted_minutes=predicted, actual_minutes=actual, interval_minutes=ends)
    (only,) = by_predicted_duration(rides)
    assert only.coverage == pytest.approx(2 / 3)
    assert only.width_minutes == 4.0


def test_map_leaves_out_zones_without_a_place_or_with_too_few_rides() -> None:
    rides = predicted_rides(70, pickup_zone=np.repeat([74, 75, 264], [40, 10, 20]))
    (zone,) = by_pickup_zone(rides)
    assert (zone.zone, zone.errors.n_rides) == (74, 40)


def test_unused_features_have_no_importance() -> None:
    used = FEATURE_NAMES.index("trip_distance_miles")
    forest = Forest.from_arrays(stump_arrays(2.0, 5.0, 20.0, feature=used), len(FEATURE_NAMES))
    found = feature_importance(ModelBundle(manifest(), forest), synthetic_rides(FEBRUARY, 500, seed=1))
    rises = {each.name: each.rise_minutes for each in found}
    assert rises.pop("trip_distance_miles") > 1
    assert set(rises) == {*FEATURE_NAMES, "pickup place", "drop-off place"} - {"trip_distance_miles"}
    assert set(rises.values()) == {0.0}
    together = {each.name: each.features for each in found}
    assert {"pickup_longitude", "pickup_latitude"} <= set(together["pickup place"])
    assert together["minute_of_day"] == ("minute_of_day",)


def test_sample_of_a_large_month_is_always_the_same() -> None:
    rides = synthetic_rides(FEBRUARY, 2000, seed=1)
    drawn = sample_rides(rides, 500)
    assert len(drawn) == 500
    assert (np.diff(drawn.pickup_time) >= np.timedelta64(0, "s")).all()
    assert (drawn.pickup_time == sample_rides(rides, 500).pickup_time).all()
    assert sample_rides(rides, 2000) is rides


@pytest.mark.parametrize(("month", "trained_on"), [(FEBRUARY, ()), (JANUARY, ("2021-01",))])
def test_facts_of_a_bundle_hold_its_evaluation_and_its_predictions(month: Month, trained_on: tuple[str, ...]) -> None:
    bundle, rides = small_bundle(), synthetic_rides(month, 300, seed=1)
    files = {**bundle.files, EVALUATION: encode_evaluation(evaluation())}
    facts = gather_facts(ExportedBundle(files, bundle.model), rides, fit_baseline(rides), small_bundle(seed=2))
    assert facts.evaluation == evaluation()
    assert (facts.rides.n_all, len(facts.rides)) == (300, 300)
    assert facts.previous is not None
    assert facts.previous.model_version == small_bundle(seed=2).model_version
    assert facts.previous.errors.n_rides == 300
    assert facts.previous.trained_on == trained_on
    assert facts.interval_level is None


RING = [[-74.0, 40.7], [-73.9, 40.7], [-73.9, 40.8], [-74.0, 40.7]]


@pytest.mark.parametrize(
    ("kind", "coordinates", "n_rings"),
    [("Polygon", [RING], 1), ("Polygon", [RING, RING], 2), ("MultiPolygon", [[RING], [RING, RING]], 3)],
)
def test_outlines_are_the_rings_of_polygons(tmp_path: Path, kind: str, coordinates: object, n_rings: int) -> None:
    path = tmp_path / "zones.geojson"
    path.write_text(json.dumps({"features": [{"geometry": {"type": kind, "coordinates": coordinates}}]}))
    outlines = read_outlines(path)
    assert [ring.tolist() for ring in outlines] == [RING] * n_rings


@pytest.mark.parametrize("name", ["tlc/taxi_zones.geojson", "tlc/zones/any.geojson", "zones/any.geojson"])
def test_outlines_are_found_in_or_beside_the_folder_of_months(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tlc"
    folder.mkdir()
    (folder / "rides.geojson").touch()
    assert find_outlines(folder) is None
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert find_outlines(folder) == tmp_path / name
    assert find_outlines(None) is None


@pytest.mark.parametrize(
    "content", ["", "[]", '{"features": []}', '{"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}']
)
def test_file_without_outlines_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "zones.geojson"
    path.write_text(content)
    with pytest.raises(UserError, match=r"zones\.geojson holds no outlines"):
        read_outlines(path)
