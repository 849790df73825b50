"""The types of versions and digests in JSON."""

from typing import Annotated

import msgspec

Version = Annotated[str, msgspec.Meta(pattern=r"\A[a-z]+-\d{4}-\d{2}-[0-9a-f]{12}\Z")]
"""A model version: service, last month of training, digest."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
