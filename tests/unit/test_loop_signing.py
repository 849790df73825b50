"""A run of the loop with a signing key: no version without the key's signature comes into a channel."""

from dataclasses import dataclass, replace

import pytest

from tests.builders_loop import World, versions
from tests.fakes_kms import KEY, FakeKms
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.signing import Signer, sign_stored
from training.workflows.loop.options import LoopParts

CHAMPION, CANDIDATE = versions()


@dataclass
class SignedWorld(World):
    """The loop of a stack whose functions load signed models only."""

    signed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kms = FakeKms()
        for version in self.signed:
            sign_stored(self.bucket, version, Signer(self.kms, KEY))

    def parts(self, bucket: Bucket | None = None) -> LoopParts:
        """The loop's parts, with the key."""
        return replace(super().parts(bucket), signer=Signer(self.kms, KEY))

    def channels(self) -> tuple[str | None, str | None]:
        """What `stable` and `candidate` hold."""
        return read_channel(self.bucket, "stable").model_version, read_channel(self.bucket, "candidate").model_version


@pytest.mark.parametrize("signed", [(), (CHAMPION,)])
def test_version_without_the_keys_signature_comes_into_no_channel(signed: tuple[str, ...]) -> None:
    world = SignedWorld(signed=signed)
    assert world.run()["outcome"] == "failed"
    assert world.channels() == (CHAMPION, None)
    assert "step candidate failed" in world.reason
    assert f"models/{CANDIDATE}/manifest.sig is missing" in world.reason


def test_signed_version_is_promoted_and_the_loop_signs_nothing() -> None:
    world = SignedWorld(signed=(CHAMPION, CANDIDATE))
    n_signed = len(world.kms.calls)
    assert world.run()["outcome"] == "promoted"
    assert world.channels() == (CANDIDATE, CANDIDATE)
    assert {what for what, _ in world.kms.calls[n_signed:]} == {"verify"}


def test_predecessor_without_a_signature_is_not_rolled_back_to() -> None:
    world = SignedWorld(signed=(CANDIDATE,), late_gain_percent=-10.0)
    assert world.run()["outcome"] == "failed"
    assert world.channels() == (CANDIDATE, CANDIDATE)
    assert "step roll back failed" in world.reason
    assert f"models/{CHAMPION}/manifest.sig is missing" in world.reason
