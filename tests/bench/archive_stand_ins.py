"""The archive with a bucket that counts bytes. It imports only what the function imports."""

from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from lambda_function.archive import build_archiver
from lambda_function.aws.settings import ArchiveSettings
from lambda_function.core.records import KINDS
from tests.bench.stand_ins import Context, Nowhere


def archiver_around(sizes: list[int]) -> Callable[[dict[str, Any]], object]:
    """Build the archive of streams that have their kinds' names; it appends the size of each object to `sizes`."""
    settings = ArchiveSettings(bucket="bucket", kinds={kind: kind for kind in KINDS}, log_level="ERROR")
    sink = Nowhere()
    with redirect_stdout(sink):
        handler = build_archiver(settings, _Bucket(sizes))

    def run(event: dict[str, Any]) -> object:
        with redirect_stdout(sink):
            return handler(event, Context())

    return run


class _Bucket:
    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes

    def put_object(self, *, Body: bytes, **_: str) -> dict[str, object]:  # noqa: N803
        self._sizes.append(len(Body))
        return {"ETag": '"etag"'}
