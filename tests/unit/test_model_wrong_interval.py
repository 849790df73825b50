"""Intervals that cannot be used, or come out otherwise than exported, are refused."""

import json
from collections.abc import Callable

import pytest

from lambda_function.core.bundle import GOLDEN, MANIFEST
from lambda_function.errors import BundleError
from tests.builders import golden_of, interval_bundle, small_interval, vouched
from tests.builders_bundles import Files, load, with_interval
from training.model.bundle import ExportedBundle


def with_golden_interval(interval: object) -> Files:
    """The same with another interval for one of the golden rides."""
    golden = golden_of(interval_bundle())
    golden[17]["interval"] = interval
    return vouched({**with_interval(), GOLDEN: json.dumps(golden).encode()})


def interval_as(name: str, value: object) -> Files:
    """The same with another value, whatever it is, in what the manifest says of the intervals."""
    files = with_interval()
    manifest = json.loads(files[MANIFEST])
    manifest["interval"][name] = value
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def halves(**changes: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    return {**small_interval().half_minutes, **changes}


WRONG: dict[str, tuple[Callable[[], Files], str, str]] = {
    "interval with a step missing": (
        lambda: with_interval(half_minutes=halves(busy_hours=(1.0, 2.0))),
        MANIFEST,
        "has an interval that cannot be used: half_minutes of busy_hours has 2 steps, not 3",
    ),
    "interval of no width": (
        lambda: with_interval(half_minutes=halves(no_distance=(1.0, -2.0, 3.0))),
        MANIFEST,
        r"half_minutes of no_distance has a step below 0\.05 minutes",
    ),
    "interval with steps in disorder": (
        lambda: with_interval(edges_minutes=(20.0, 8.0)),
        MANIFEST,
        "edges_minutes are not ascending",
    ),
    "interval of NaN": (
        lambda: interval_as("level", float("nan")),
        MANIFEST,
        "does not decode: JSON is malformed",
    ),
    "interval of nothing": (
        lambda: interval_as("half_minutes", {"busy_hours": [None, 1, 2]}),
        MANIFEST,
        r"does not decode: Expected `float`, got `null` - at `\$\.interval\.half_minutes",
    ),
    "interval of kinds to come": (
        lambda: interval_as("half_minutes", {"by_weather": [1, 2, 3]}),
        MANIFEST,
        "half_minutes has the kinds by_weather; this function knows busy_hours",
    ),
    "interval over a range without end": (
        lambda: vouched(with_interval(), duration_range_minutes=(1.0, 1e12)),
        MANIFEST,
        r"there is no table for predictions from 1 to 1e\+12 minutes",
    ),
    "interval of another width than exported": (
        lambda: with_interval(half_minutes=halves(no_distance=(4.25, 5.5, 8.26))),
        GOLDEN,
        r"ride 9\d has the interval \(\d+\.\d+, \d+\.\d+\), and here it is \(",
    ),
    "golden ride's interval off": (
        lambda: with_golden_interval([1.0, 60.0]),
        GOLDEN,
        r"ride 17 has the interval \(1\.0, 60\.0\), and here it is \(",
    ),
    "golden ride without its interval": (
        lambda: with_golden_interval(None),
        GOLDEN,
        r"ride 17 has the interval None, and here it is \(",
    ),
    "golden rides with intervals of none": (
        lambda: vouched(with_interval(), interval=None),
        GOLDEN,
        r"ride 0 has the interval \(.*\), and here it is None",
    ),
}


@pytest.mark.parametrize(("make", "file", "problem"), WRONG.values(), ids=WRONG)
def test_wrong_bundle_is_refused_with_file_and_problem(
    make: Callable[[], Files], file: str, problem: str, bundle: ExportedBundle
) -> None:
    with pytest.raises(BundleError, match=rf"bundle {bundle.model_version}, {file}: .*{problem}") as refused:
        load(make())
    assert refused.value.file == file
    assert refused.value.model_version == bundle.model_version
