"""`loop/lease.json`: one run of the loop at a time. A run that ends without releasing it loses it when it expires."""

from datetime import datetime, timedelta

import msgspec

from training.errors import BucketError
from training.registry.bucket import Bucket
from training.workflows.loop.state import DAMAGE, Moment

LEASE_KEY = "loop/lease.json"

LEASE_S = 36 * 3600.0
"""How long a run holds the lease after a step: a day's wait, four hours of retries, and a margin."""

_N_TRIES = 5


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the loop.

    Attributes:
        run_id: The run's; of a released lease, the last one's.
        taken_at: When the run took it; it is renewed at each step.
        expires_at: From then on another run may take it.
    """

    run_id: str
    taken_at: Moment
    expires_at: Moment


_decode = msgspec.json.Decoder(Lease).decode


def hold_lease(bucket: Bucket, run_id: str, now: datetime, for_s: float = LEASE_S) -> Lease:
    """Take or renew the lease for a run, unless another run holds it; return the lease as it is then.

    The lease belongs to the run for at least `for_s` seconds, unless the run releases it.

    Raises:
        BucketError: S3 fails, or others write the lease all the time.
    """
    for _ in range(_N_TRIES):
        held, etag = _read(bucket)
        is_own = held is not None and held.run_id == run_id
        if held and not is_own and held.expires_at > now:
            return held
        expires_at = now + timedelta(seconds=for_s)
        taken_at = now
        if held and is_own and held.expires_at > now:  # renewed, never shortened
            taken_at, expires_at = held.taken_at, max(expires_at, held.expires_at)
        new = Lease(run_id=run_id, taken_at=taken_at, expires_at=expires_at)
        if new == held or bucket.replace(LEASE_KEY, _encode(new), etag):
            return new
    raise BucketError(bucket.name, LEASE_KEY, "is being written by somebody else: try again")


def release_lease(bucket: Bucket, run_id: str, now: datetime) -> bool:
    """Let the lease expire now if a run holds it; return whether the run held it."""
    for _ in range(_N_TRIES):
        held, etag = _read(bucket)
        if held is None or held.run_id != run_id or held.expires_at <= now:
            return False
        released = Lease(run_id=run_id, taken_at=held.taken_at, expires_at=now)
        if bucket.replace(LEASE_KEY, _encode(released), etag):
            return True
    raise BucketError(bucket.name, LEASE_KEY, "is being written by somebody else: try again")


def read_lease(bucket: Bucket, now: datetime) -> Lease | None:
    """Return the lease; None if no run holds it."""
    held, _ = _read(bucket)
    return held if held and held.expires_at > now else None


def _read(bucket: Bucket) -> tuple[Lease | None, str | None]:
    """Read the lease and its ETag. An object that is no lease is nobody's: the next run replaces it."""
    stored = bucket.read(LEASE_KEY)
    if stored is None:
        return None, None
    try:
        return _decode(stored.body), stored.etag
    except DAMAGE:
        return None, stored.etag


def _encode(lease: Lease) -> bytes:
    return msgspec.json.encode(lease) + b"\n"
