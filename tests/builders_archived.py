"""Single objects of the archive."""

from lambda_function.aws.archive_store import compress
from lambda_function.core.archive_lines import archive_key, digest_of, encode_lines
from tests.builders import SHARD_ID, kinesis_records, sequence_number

HOUR = "dt=2021-01-05/hh=08"
"""The partition of the stream's first records."""


def archived(kind: str, *datas: bytes, first: int = 0, hour: str = HOUR) -> tuple[str, bytes]:
    """An archive object of the stream's records from `first` on: its key and its body."""
    lines = encode_lines(kinesis_records(*[b""] * first, *datas)[first:])
    key = archive_key(kind, hour, SHARD_ID, sequence_number(first), digest_of(lines))
    return key, compress(lines)
