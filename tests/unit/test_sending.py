"""What `ridecast up` offers to send fits the data on this machine."""

from pathlib import Path

import pytest

from infra.cli.sending import amount_option


@pytest.mark.parametrize(
    ("folder", "option"), [("with", "--rides 7"), ("without", "--synthetic 7"), ("nowhere", "--synthetic 7")]
)
def test_rides_are_made_up_only_without_the_default_month(
    folder: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "green_tripdata_2021-02.parquet").write_bytes(b"PAR1")
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path / folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert amount_option(7) == option
