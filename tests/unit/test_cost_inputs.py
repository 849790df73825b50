"""Where a cost's figures come from: times from the bench, a default that says so, or given; load from the template."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import CostInputError
from infra.operate.cost import (
    COURSE,
    DEFAULT_US,
    PACKED,
    PACKED_OUTPUT,
    PLAIN,
    Given,
    Load,
    inventory_of,
    load_of,
    work_of,
)
from infra.stack.template import TEMPLATE, read_template


def bench_file(folder: Path, figures: Any) -> Path:
    path = folder / "bench.json"
    path.write_text(json.dumps([{"name": name, "value": us, "unit": "us a ride"} for name, us in figures.items()]))
    return path


def test_time_is_what_the_bench_has_measured_on_its_largest_batch(tmp_path: Path) -> None:
    figures = {
        "handler: batch of 9,400": 6.0,
        "handler: batch of 1,000": 9.0,
        "handler: batch of 1": 706.0,
        "handler: batch of 9,400, packed output": 4.5,
        "handler: the course's, put_record a ride, linear model": 500.0,
        "handler: a plain batched one, scikit-learn, same model": 20.0,
    }
    path = bench_file(tmp_path, figures)
    work = work_of(Given(), path)
    assert {name: one.us_per_ride for name, one in work.items()} == {
        PLAIN: 6.0,
        PACKED_OUTPUT: 4.5,
        PACKED: 4.5,
        COURSE: 500.0,
    }
    assert (work[PLAIN].us_per_invocation, work[COURSE].us_per_invocation) == (700.0, 0.0)
    assert work[PLAIN].source == f"measured: {path}, handler: batch of 9,400"


def test_time_that_nobody_measured_is_a_default_and_says_so(tmp_path: Path) -> None:
    work = work_of(Given(), tmp_path / "bench.json")
    assert {name: one.us_per_ride for name, one in work.items()} == DEFAULT_US
    assert all("default" in one.source for one in work.values())


def test_time_that_is_given_stands_above_all(tmp_path: Path) -> None:
    work = work_of(Given(plain=1.0, course=2.0), bench_file(tmp_path, {"handler: batch of 9,400": 6.0}))
    assert (work[PLAIN].us_per_ride, work[COURSE].us_per_ride) == (1.0, 2.0)
    assert work[PLAIN].source == work[COURSE].source == "as given"
    assert work[PACKED].us_per_ride == DEFAULT_US[PACKED]


@pytest.mark.parametrize("text", ["{", "[1]", "[{}]", '[{"name": "x", "value": "y"}]', "\udcff"])
def test_file_that_is_no_benchs_result_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CostInputError, match="run `make bench`, or delete it"):
        work_of(Given(), path)


def test_load_is_the_templates_own() -> None:
    load = load_of(100.0, 3, api_requests_per_s=2.0)
    assert load == Load(
        100.0,
        3,
        window_s=1.0,
        batch_size=10_000,
        memory_mb=1769,
        retention_hours=48.0,
        kept_days=365.0,
        api_requests_per_s=2.0,
        api_memory_mb=1769,
        inventory=inventory_of(read_template(TEMPLATE)),
    )
    assert load_of(100.0, 3, window_s=5.0).window_s == 5.0
