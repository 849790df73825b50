"""Pickup times in bulk: the same minutes as one by one, or left alone."""

from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_function.core.pickup_time import pickup_minute, usual_pickup_minutes
from lambda_function.errors import RejectError

DIGITS = st.text("0123456789", min_size=14, max_size=14)
USUAL = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0).isoformat()
)


@given(st.lists(USUAL, min_size=1, max_size=20))
def test_usual_times_have_the_minutes_that_each_has_alone(texts: list[str]) -> None:
    minutes = usual_pickup_minutes(texts)
    assert minutes is not None
    assert minutes.tolist() == [pickup_minute(text, 0.0) for text in texts]


@given(DIGITS)
@example("00000101000000")
@example("20210105240000")
@example("20210105235960")
@example("20210229000000")
def test_digits_in_their_places_are_a_time_in_bulk_only_if_they_are_one_alone(digits: str) -> None:
    text = "{}{}{}{}-{}{}-{}{}T{}{}:{}{}:{}{}".format(*digits)
    try:
        expected = [pickup_minute(text, 0.0)]
    except RejectError:
        assert usual_pickup_minutes([text]) is None
    else:
        minutes = usual_pickup_minutes([text])
        assert minutes is not None
        assert minutes.tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2021-01-05",
        "2021-01-05 08:15:00",
        "2021-01-05T08:15+05",
        "2021-01-05T08:15:0Z",
        "-021-01-05T08:15:00",
        " 2021-01-5T08:15:00",
        "2021-W01-2T08:15:00",
        "2021-01-05T08:15:\u0661\u0661",
        "2021-01-05T08:15:00Z",
        "2021-01-05T08:15:\ud8000",
    ],
)
def test_unusual_time_is_left_to_the_slower_way(text: str | None) -> None:
    assert usual_pickup_minutes(["2021-01-05T08:15:00", text]) is None
    assert usual_pickup_minutes([text]) is None


def test_no_times_are_left_to_the_slower_way() -> None:
    assert usual_pickup_minutes([]) is None
