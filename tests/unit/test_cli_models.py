"""`ridecast models` on a folder as the bucket: tables and JSON."""

import re
from pathlib import Path

import msgspec
import pytest

from infra.cli.options import BucketAws
from lambda_function.core.bundle import FOREST, MANIFEST, load_bundle, sha256
from tests.builders import small_bundle, vouched
from tests.builders_calibrations import AS_OF, LATER, calibrate
from tests.builders_channels import gate
from tests.fakes_kms import KEY as SIGNING_KEY
from tests.kits.cli import Cli
from tests.unit.test_channel import DAMAGED
from tests.unit.test_gate import weak_bundle
from training.model.bundle import ExportedBundle, write_bundle
from training.model.results import EVALUATION, Evaluation, Measured, MonthsResult, SliceResult, encode_evaluation
from training.registry.catalog import MIN_SLICE_RIDES
from training.registry.channels import move_channel, split_channel, store_bundle
from training.registry.versions import put_artifact

FIRST, SECOND, THIRD = (small_bundle(seed).model_version for seed in (1, 2, 3))


class Models(Cli):
    """`ridecast models` on a folder."""

    def __init__(self, folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", folder)
        self.bucket = BucketAws(bucket=folder).open_bucket()

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("models", *words)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Models:
    """A bucket that does not exist yet."""
    return Models(f"file:{tmp_path / 'bucket'}", monkeypatch, capsys)


@pytest.fixture
def cli(empty: Models) -> Models:
    """A bucket with two versions; `stable` points at the first."""
    for bundle in (small_bundle(), small_bundle(2)):
        store_bundle(empty.bucket, bundle)
    move_channel(empty.bucket, "stable", FIRST, small_bundle().manifest_sha256)
    return empty


def measured(rmse_minutes: float, n_rides: int = 1000) -> Measured:
    return Measured(n_rides, rmse_minutes, rmse_minutes / 2, 0.0)


def evaluated(seed: int, rmse_minutes: float, month: str = "2021-02") -> ExportedBundle:
    """A small bundle with an evaluation: the night is worse than the baseline, one slice is small."""
    slices = (
        SliceResult("hour", "03", measured(9.0 + rmse_minutes), measured(9.5)),
        SliceResult("hour", "08", measured(rmse_minutes), measured(7.0)),
        SliceResult("borough", "Queens", measured(rmse_minutes * 100, MIN_SLICE_RIDES - 1), measured(1000.0)),
    )
    evaluation = Evaluation(
        validate=MonthsResult((month,), measured(rmse_minutes), measured(7.0), None, None, slices),
        test=MonthsResult(("2021-03",), measured(6.25), measured(7.0), None, None, ()),
    )
    old = small_bundle(seed)
    files = vouched({**old.files, EVALUATION: encode_evaluation(evaluation)})
    return ExportedBundle(files, load_bundle(old.model_version, sha256(files[MANIFEST]), files))


# List and show ------------------------------------------------------------------------------------------------------


def test_list_has_a_line_a_version_with_its_channels(cli: Models) -> None:
    text = cli.run("list")
    for part in (FIRST, SECOND, "stable", "2021-01", "2021-02", "5.00"):
        assert part in text
    by_version = {one["model_version"]: one for one in cli("list")["versions"]}
    assert by_version.keys() == {FIRST, SECOND}
    assert (by_version[FIRST]["channels"], by_version[SECOND]["channels"]) == (["stable"], [])
    assert by_version[FIRST]["rmse_minutes"] == 5.0
    assert by_version[FIRST]["mae_minutes"] is None
    assert by_version[FIRST]["stored_at"] < by_version[SECOND]["stored_at"]


def test_version_that_cannot_be_read_is_listed_with_its_problem(cli: Models, tmp_path: Path) -> None:
    (tmp_path / "bucket" / "models" / SECOND / MANIFEST).write_text("{")
    broken = next(one for one in cli("list")["versions"] if one["model_version"] == SECOND)
    assert "manifest.json: does not decode" in broken["problem"]
    assert "not readable" in cli.run("list")


def test_empty_bucket_has_an_empty_list(empty: Models, tmp_path: Path) -> None:
    assert empty("list")["versions"] == []
    assert empty("history")["moves"] == []
    assert not (tmp_path / "bucket").exists()


def test_show_has_all_facts_of_a_version(cli: Models) -> None:
    store_bundle(cli.bucket, evaluated(3, 5.0))
    gate(cli.bucket, 3, against=1)
    put_artifact(cli.bucket, THIRD, "report.html", b"")
    text = cli.run("show", THIRD)
    for part in ("hour 03", "6.25", "max_iter=20", "numpy", "report.html", f"stable: passed against {FIRST}"):
        assert part in text
    assert "hour 08" not in text
    found = cli("show", THIRD)
    assert found["manifest"]["parameters"]["max_iter"] == 20
    assert found["evaluation"]["test"]["model"]["rmse_minutes"] == 6.25
    assert found["verdicts"]["stable"]["against"] == FIRST
    assert found["artifacts"] == ["gate-stable.json", "report.html"]


def test_version_without_an_evaluation_is_shown(cli: Models) -> None:
    assert "exported without an evaluation" in cli.run("show", "stable")
    assert cli("show", "stable")["channels"] == ["stable"]


def test_evaluation_that_does_not_decode_is_one_sentence(cli: Models, tmp_path: Path) -> None:
    store_bundle(cli.bucket, evaluated(3, 5.0))
    (tmp_path / "bucket" / "models" / THIRD / EVALUATION).write_text("{")
    assert "evaluation.json: does not decode" in cli.refuses("show", THIRD)


# Compare ------------------------------------------------------------------------------------------------------------


def test_compare_puts_parameters_metrics_and_slices_side_by_side(cli: Models) -> None:
    for bundle in (evaluated(3, 5.0), evaluated(4, 4.0)):
        store_bundle(cli.bucket, bundle)
    a, b = THIRD, small_bundle(4).model_version
    found = cli("compare", a, b)
    assert (found["a"], found["b"], found["same_validation"]) == (a, b, True)
    assert found["differences"] == {"parameters.random_state": [3, 4]}
    assert found["metrics"] == {"validate.rmse_minutes": [5.0, 5.0]}
    assert [(one["by"], one["name"], one["off_minutes"]) for one in found["slices"]] == [
        ("hour", "03", -1.0),
        ("hour", "08", -1.0),
    ]
    text = cli.run("compare", a, b)
    for part in ("random_state", "hour 08", "-1.00", "14.00"):
        assert part in text


def test_slices_of_different_months_are_not_compared(cli: Models) -> None:
    for bundle in (evaluated(3, 5.0), evaluated(4, 4.0, month="2021-03")):
        store_bundle(cli.bucket, bundle)
    assert cli("compare", THIRD, small_bundle(4).model_version)["slices"] == []


def test_compare_measures_both_on_a_month_that_neither_has_seen(cli: Models) -> None:
    weak = weak_bundle()
    store_bundle(cli.bucket, weak)
    found = cli("compare", FIRST, weak.model_version, "--test", "2021-03")["unseen"]
    assert (found["months"], found["a"]["n_rides"]) == (["2021-03"], found["difference"]["n_rides"])
    assert 0 < found["difference"]["low"] < found["difference"]["difference_rmse_minutes"]
    assert found["b"]["rmse_minutes"] > found["a"]["rmse_minutes"]
    whole = next(one for one in found["slices"] if one["name"] == "Manhattan to Manhattan")
    assert 0 < whole["low"] < whole["difference"] < whole["high"]
    text = " ".join(cli.run("compare", FIRST, weak.model_version, "--test", "2021-03").split())
    for part in ("On 2021-03, which neither has seen", "A is better", "Slices that differ most surely"):
        assert part in text


def test_compare_without_an_unseen_month_says_which_one_to_add(cli: Models) -> None:
    found = cli("compare", FIRST, SECOND)
    assert found["unseen"] is None
    assert "add green 2021-03 or a later month" in found["unseen_problem"]
    assert "no local month is new to both models" in " ".join(cli.run("compare", FIRST, SECOND).split())
    code, out, err = cli.ended("compare", FIRST, SECOND, "--test", "2021-02")
    assert (code, out) == (2, "")
    assert f"{FIRST} has met 2021-02" in err


def test_models_validated_on_different_months_are_said_to_be(cli: Models, tmp_path: Path) -> None:
    path = tmp_path / "bucket" / "models" / SECOND / MANIFEST
    manifest = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**manifest, "validate_months": ["2021-03"]}))
    assert "these errors are of different rides" in " ".join(cli.run("compare", FIRST, SECOND).split())
    assert cli("compare", FIRST, SECOND)["same_validation"] is False


# Move ---------------------------------------------------------------------------------------------------------------


def test_promote_roll_back_and_the_history_of_it(cli: Models) -> None:
    gate(cli.bucket, 2, against=1)
    moved = cli("promote", SECOND[:-2])
    assert (moved["channel"], moved["model_version"], moved["previous"]) == ("stable", SECOND, FIRST)
    assert (moved["moved"], moved["why"]) == (True, "promote")
    back = cli("rollback", FIRST)
    assert (back["model_version"], back["previous"], back["why"]) == (FIRST, SECOND, "rollback")
    moves = cli("history")["moves"]
    assert [(move["model_version"], move["why"]) for move in moves] == [
        (FIRST, "publish"),
        (SECOND, "promote"),
        (FIRST, "rollback"),
    ]
    assert cli("rollback", FIRST)["moved"] is False
    text = cli.run("history", "--channel", "stable")
    for part in (FIRST, SECOND, "rollback", moves[0]["moved_by"]):
        assert part in text


def test_promoting_the_present_version_does_nothing(cli: Models) -> None:
    assert cli("promote", FIRST)["moved"] is False
    assert "the channel already held it: nothing has moved" in cli.run("promote", FIRST)
    assert len(cli("history")["moves"]) == 1


def test_promotion_says_when_the_model_serves_and_is_pending_until_then(cli: Models) -> None:
    gate(cli.bucket, 2, against=1)
    text = cli.run("promote", SECOND, "--activation-delay", "3600")
    begin = re.search(r"serves +rides that arrive from (\S+ \S+Z)", text)
    assert begin
    lines = [line for line in cli.run("list").splitlines() if "stable" in line]
    assert f"stable from {begin[1]}" in "\n".join(lines)
    assert f"stable from the beginning until {begin[1]}" in " ".join(" ".join(lines).split())
    versions = {one["model_version"]: one for one in cli("list")["versions"]}
    first, second = versions[FIRST], versions[SECOND]
    assert (first["channels"], second["channels"]) == ([], ["stable"])
    assert first["segments"][0]["effective_until"] == second["segments"][0]["effective_from"]
    assert f"stable from {begin[1]}" in cli.run("show", SECOND)
    assert begin[1] in cli.run("history")


def test_rollback_says_that_it_acts_at_once_and_what_it_withdrew(cli: Models) -> None:
    gate(cli.bucket, 2, against=1)
    promoted = cli("promote", SECOND)
    text = cli.run("rollback", FIRST)
    assert "as soon as running functions read the channel" in " ".join(text.split())
    assert f"rollback, withdrew {SECOND}" in " ".join(cli.run("history").split())
    entry = cli("history")["moves"][-1]
    assert (entry["withdrawn"], entry["effective_from"]) == (SECOND, promoted["effective_from"])


def test_calibrations_in_a_row_are_one_line_of_the_history(cli: Models) -> None:
    for day in (1, 2, 3):
        calibrate(cli.bucket, as_of=f"2026-11-{day:02d}T05")
    last = f"{FIRST}+2026-11-03T05"
    text = " ".join(cli.run("history").split())
    assert f"{last} " in text
    assert "3 calibrations since" in text
    assert "the first to 2026-11-01T05" in text
    first, run = cli("history")["moves"]
    assert (first["why"], "n_moves" in first) == ("publish", False)
    assert (run["served_version"], run["first_version"], run["n_moves"]) == (last, f"{FIRST}+2026-11-01T05", 3)
    every = cli("history", "--all")["moves"]
    assert [move["why"] for move in every] == ["publish", *["calibration"] * 3]
    assert [move["served_version"] for move in every[2:]] == [f"{FIRST}+2026-11-02T05", last]


def test_calibrated_version_is_shown_as_it_serves(cli: Models) -> None:
    calibrate(cli.bucket)
    calibrate(cli.bucket, as_of=LATER)
    assert f"stable from the beginning, calibrated as of {LATER}" in " ".join(cli.run("show", FIRST).split())
    found = cli("show", FIRST)
    assert (found["channels"], len(found["segments"])) == (["stable"], 1)
    assert (found["segments"][0]["n_calibrations"], found["segments"][0]["as_of"]) == (2, LATER)
    gate(cli.bucket, 2, against=1)
    moved = cli("promote", SECOND)
    assert (moved["served_version"], moved["previous"]) == (SECOND, f"{FIRST}+{LATER}")
    back = cli("rollback", f"{FIRST}+{AS_OF}")
    assert (back["served_version"], back["withdrawn"]) == (f"{FIRST}+{AS_OF}", SECOND)
    assert f"{FIRST}+{AS_OF}" in cli.run("history")


def test_split_is_shown_with_the_share_of_the_candidate(cli: Models) -> None:
    gate(cli.bucket, 2, against=1)
    split_channel(cli.bucket, "stable", SECOND, 0.2, "one")
    split_channel(cli.bucket, "stable", SECOND, 0.25, "one")
    assert f"{FIRST}, and {SECOND} for 25% of the rides" in " ".join(cli.run("history").split())
    assert ", 25% of the rides" in " ".join(cli.run("show", SECOND).split())
    champion, candidate = (cli("show", version) for version in (FIRST, SECOND))
    assert (champion["channels"], candidate["channels"]) == (["stable"], [])
    assert [(one["share"], one["is_candidate"]) for one in champion["segments"]] == [(0.75, False)]
    assert [(one["share"], one["is_candidate"]) for one in candidate["segments"]] == [(0.25, True)]
    back = cli("rollback", FIRST)
    assert (back["served_version"], back["withdrawn"], back["candidate_version"]) == (FIRST, SECOND, None)


def test_served_version_of_a_prediction_names_its_model_and_cannot_be_promoted(cli: Models) -> None:
    assert cli("show", f"{FIRST}+{AS_OF}")["model_version"] == FIRST
    gate(cli.bucket, 2, against=1)
    assert "is a model with a calibration, and a promotion is of a model" in cli.refuses("promote", f"{SECOND}+{AS_OF}")


DAMAGED_BY_COMMAND = [
    ["list"],
    ["show", "stable"],
    ["show", FIRST],
    ["compare", FIRST, SECOND],
    ["promote", SECOND],
    ["rollback"],
    ["rollback", FIRST],
    ["history"],
    ["reproduce", FIRST],
    ["release", "BUNDLE", "--test", "2021-02"],
    ["sign", FIRST, "--signing-key", SIGNING_KEY],
    ["sync", FIRST],
    ["check"],
]


@pytest.mark.parametrize("words", DAMAGED_BY_COMMAND, ids=" ".join)
def test_damaged_channel_is_one_sentence_with_the_remedy_in_every_command(
    cli: Models, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    folder = write_bundle(small_bundle(2), tmp_path)
    channel = tmp_path / "bucket" / "channels" / "stable.json"
    remedy = f"with `ridecast models restore --channel stable --bucket {cli.options[-1]}`"
    # One decoder reads them all (test_channel.py): every kind of damage for one command, the worst one for the others.
    for data in DAMAGED if words == ["list"] else DAMAGED[-1:]:
        channel.write_bytes(data)
        code, out, err = cli.ended(*(folder if word == "BUNDLE" else word for word in words))
        (said,) = [line for line in err.splitlines() if line.startswith("ridecast: ")]
        assert (code, out) == (2, "")
        assert "channels/stable.json is damaged: " in said
        assert said.endswith(remedy)
        assert "Traceback" not in err


def test_damaged_channel_is_restored_from_its_history_once(cli: Models, tmp_path: Path) -> None:
    gate(cli.bucket, 2, against=1)
    promoted = cli("promote", SECOND)
    (tmp_path / "bucket" / "channels" / "stable.json").write_bytes(b"{}")
    restored = cli("restore")
    assert (restored["model_version"], restored["why"]) == (SECOND, "restore")
    assert restored["effective_from"] == promoted["effective_from"]
    assert f"stable is not damaged: it holds {SECOND}" in cli.refuses("restore")
    assert [move["why"] for move in cli("history")["moves"]] == ["publish", "promote", "restore"]


def test_history_of_all_channels_is_in_order_of_time(cli: Models) -> None:
    cli("promote", SECOND, "--channel", "candidate", "--force")
    gate(cli.bucket, 2, against=1)
    cli("promote", "candidate")
    assert [move["channel"] for move in cli("history")["moves"]] == ["stable", "candidate", "stable"]
    assert [move["why"] for move in cli("history", "--channel", "candidate")["moves"]] == ["force"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["promote", SECOND],
            f"may not go to stable, which holds {FIRST}: it has no verdict of the gate: run `ridecast",
        ),
        (["promote", SECOND, "--force"], "stable takes no version by force, only candidate does: leave out --force"),
        (["promote", "green"], "holds several versions called green"),
        (["promote", "blue"], "holds no version and no channel 'blue'; there is green-2021-01-"),
        (["promote", "stabel"], "no channel 'stabel'; did you mean stable?"),
        (["promote", SECOND, "--channel", "../x"], "'../x' is not a channel name"),
        (
            ["promote", SECOND, "--channel", "stabel"],
            "no channel stabel: did you mean stable? --create makes a new",
        ),
        (
            ["promote", SECOND, "--channel", "blue"],
            "no channel blue: there is candidate, stable; --create makes",
        ),
        (["rollback"], f"stable has held nothing before {FIRST}, so it cannot be rolled back"),
        (["rollback", ""], "stable has not held a version ''"),
        (["promote", ""], "holds no version and no channel ''"),
        (["promote", SECOND, "--activation-delay", "inf"], "Invalid value for '--activation-delay'"),
        (["promote", SECOND, "--activation-delay", "86401"], "Invalid value for '--activation-delay'"),
        (["rollback", SECOND], f"stable has not held a version '{SECOND}'"),
        (["rollback", "--channel", "candidate"], "candidate holds nothing"),
        (["rollback", "--channel", "stabel"], "so it cannot be rolled back: did you mean stable?"),
        (["compare", FIRST], "Missing argument 'b'"),
    ],
)
def test_mistake_is_one_sentence(cli: Models, arguments: list[str], sentence: str) -> None:
    assert sentence in cli.refuses(*arguments)


def test_channel_is_made_if_it_is_asked_for(cli: Models) -> None:
    gate(cli.bucket, 1, against=None, channel="blue")
    assert cli("promote", FIRST, "--channel", "blue", "--create")["channel"] == "blue"
    assert cli("promote", FIRST, "--channel", "blue")["moved"] is False


def test_rollback_without_a_version_names_the_version_before(cli: Models) -> None:
    move_channel(cli.bucket, "stable", SECOND, small_bundle(2).manifest_sha256)
    said = cli.refuses("rollback")
    command = f"`ridecast models rollback {FIRST} --channel stable --bucket {cli.options[-1]}`"
    assert said.endswith(f"name the version that stable goes back to; before, it held {FIRST}: run {command}\n".strip())
    assert cli("show", SECOND)["channels"] == ["stable"]


def test_move_is_printed_before_a_broken_mlflow_is_warned_of(cli: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://nowhere")
    gate(cli.bucket, 2, against=1)
    code, out, err = cli.ended("promote", SECOND)
    assert code == 0
    assert f"now       {SECOND}" in out
    assert err.startswith("ridecast: MLflow at no-such-scheme://nowhere")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_cut_no_version_at_any_width(cli: Models, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (("list",), ("history",), ("show", FIRST), ("compare", FIRST, SECOND)):
        lines = cli.run(*command).splitlines()
        assert any(FIRST in line for line in lines)
        assert columns < 80 or all(len(line) <= columns or "file:" in line for line in lines)


def test_broken_bundle_is_one_sentence(cli: Models, tmp_path: Path) -> None:
    gate(cli.bucket, 2, against=1)
    (tmp_path / "bucket" / "models" / SECOND / FOREST).write_bytes(b"")
    assert "forest.npz: has 0 bytes of" in cli.refuses("promote", SECOND)


@pytest.mark.parametrize("name", ["rides", "s3://rides/"])
def test_other_names_are_buckets_of_an_aws(name: str) -> None:
    bucket = BucketAws(bucket=name, endpoint_url="http://127.0.0.1:1").open_bucket()
    assert bucket.name == "rides"
    assert bucket.s3.meta.endpoint_url == "http://127.0.0.1:1"


def test_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Models) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "bucket").rename(tmp_path / "build" / "bucket")
    monkeypatch.chdir(tmp_path)
    cli.options = ()
    assert len(cli("list")["versions"]) == 2


def test_history_of_a_mistyped_channel_asks_for_the_right_one(cli: Models) -> None:
    assert cli.run("history", "--channel", "stabel").splitlines()[1:] == ["did you mean stable?"]


def test_empty_bucket_names_the_next_step(cli: Models, tmp_path: Path) -> None:
    cli.options = ("--bucket", f"file:{tmp_path}/empty")
    assert cli.run("list").splitlines()[1].startswith("no version yet: `ridecast train --channel stable`")
    assert cli.run("history").splitlines()[1].startswith("no channel has moved yet: `ridecast models release`")
