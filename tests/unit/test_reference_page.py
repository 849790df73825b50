"""docs/reference.md has the help texts and docstrings of today."""

from pathlib import Path

import pytest

from infra.cli.reference import PAGE, reference_page

ROOT = Path(__file__).parents[2]


def test_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIDECAST_BUILD", raising=False)
    found = (ROOT / PAGE).read_text(encoding="utf-8")
    assert found == reference_page(), "run `make format`"


def test_page_has_every_command_and_no_place_of_this_machine() -> None:
    page = reference_page()
    for heading in ("### load_model", "### ridecast demo", "### ridecast models promote", "### ridecast loop status"):
        assert f"{heading}\n" in page
    assert str(ROOT) not in page
