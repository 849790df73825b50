"""`ridecast loop` on a bucket in a folder; the stack's part with a recorded Lambda client."""

from pathlib import Path

import pytest

from infra.local.s3 import FolderS3
from tests.builders_loop import FakeWorkers, World, collected, loop_bucket, trained, versions
from tests.kits.cli import Cli
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import this_mover

CHAMPION, CANDIDATE = versions()


class Loop(Cli):
    """`ridecast loop` on a folder with a champion and labelled days, in a folder of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", f"file:{folder / 'bucket'}")
        self.bucket = Bucket(FolderS3(folder / "bucket"), "folder")
        self.folder = folder
        monkeypatch.chdir(folder)

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("loop", *words)

    def world(self, **options: object) -> World:
        """Return the loop's world on this bucket."""
        for key, body in loop_bucket().s3.objects.items():
            path = self.folder / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        return World(bucket=self.bucket, **options)  # type: ignore[arg-type]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Loop:
    return Loop(monkeypatch, capsys, tmp_path)


def test_status_without_runs_names_the_next_step(cli: Loop) -> None:
    assert "`ridecast loop start`" in cli.run("status")
    assert cli("status") == {"runs": [], "lease": None}


def test_status_shows_runs_their_reasons_and_the_lease(cli: Loop) -> None:
    world = cli.world()
    assert world.resume() is None
    shown = " ".join(cli.run("status").split())
    assert "r1 2026-11-29 20:00" in shown
    assert "waiting the next look at the experiment" in shown
    steps = [step["name"] for step in cli("status", "r1")["steps"]]
    assert steps == ["decide", "collect", "collected", "train", "trained", "gate", "candidate"]
    assert f"passed the gate against {CHAMPION}" in " ".join(cli.run("status", "r1").split())


def test_refusal_is_shown_with_its_reason(cli: Loop) -> None:
    started = cli("start")
    assert started["end"]["outcome"] == "refused"
    assert started["end"]["text"] in " ".join(cli.run("status").split())


def test_start_runs_here_until_the_run_waits_and_goes_on_with_it_at_the_next_call(
    cli: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = cli.world()
    monkeypatch.setattr("infra.local.loop._now", world.clock)
    monkeypatch.setattr("infra.local.loop.collect", lambda _bucket, request, _step: collected(request))
    monkeypatch.setattr("infra.local.loop.retrain", lambda *_: trained())
    begun = cli("start", "--reason", "new zones")
    assert (begun["reason"], begun["end"], begun["waiting"]["what"]) == (
        "new zones",
        None,
        "the next look at the experiment",
    )
    assert "again from" in cli.run("start")
    assert cli("start")["run_id"] == begun["run_id"]
    assert len(cli("status")["runs"]) == 1


def test_stop_ends_a_run_and_frees_the_lease(cli: Loop) -> None:
    world = cli.world()
    assert world.resume() is None
    assert cli("stop", "r1", "--reason", "new prices")["end"]["outcome"] == "stopped"
    assert cli("status")["lease"] is None
    assert world.run()["outcome"] == "stopped"
    assert read_channel(cli.bucket, "stable").model_version == CHAMPION


def test_unknown_runs_and_unasked_questions_are_refused_with_the_next_step(cli: Loop) -> None:
    assert "there is no run r9" in cli.refuses("status", "r9")
    assert "there is no run r9" in cli.refuses("stop", "r9")
    world = cli.world(workers=FakeWorkers())
    assert world.resume() is None
    assert "run r1 does not wait for approval: `ridecast loop status r1`" in cli.refuses("approve", "r1")


def test_person_is_named_in_the_record(cli: Loop) -> None:
    assert cli.world().resume() is None
    assert this_mover().name in cli("stop", "r1")["end"]["text"]
