"""Read plain arrays from an .npz, and check what it declares before allocating memory.

`np.load` trusts its input: 100 bytes can declare an array of a terabyte, and 16 MB can unpack to 16 GB. This reader
refuses an archive by what it declares and never unpacks more than that.
"""

import io
import math
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from lambda_function.errors import ForestError

MAX_ARRAYS = 32
MAX_UNPACKED_BYTES = 1 << 24
"""The limit for all arrays together. A forest of 400 trees takes 0.3 MB."""

_DIRECTORY_ENTRY = b"PK\x01\x02"
"""The first bytes of each entry in an archive's directory."""

_SUFFIX = ".npy"
_METHODS = {ZIP_STORED, ZIP_DEFLATED}  # the methods that numpy writes; the others may unpack any amount at once


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return an archive's arrays by name; they are read-only.

    Raises:
        ForestError: The data are no archive, are too large, or hold something other than plain arrays.
    """
    # ZipFile reads the whole directory at once: 16 MB of it are 357,000 entries. The limit leaves room for arrays that
    # happen to hold these four bytes.
    if (n_entries := data.count(_DIRECTORY_ENTRY)) > MAX_ARRAYS:
        raise ForestError(f"is no archive of plain arrays: {n_entries:,} entries, where {MAX_ARRAYS} are taken")
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            _check(archive)
            return {one.filename.removesuffix(_SUFFIX): _array(_unpack(archive, one)) for one in archive.infolist()}
    except BadZipFile as error:
        raise ForestError(f"is no archive of plain arrays: {error}, and no pickle is read") from error
    except Exception as error:  # for damaged bytes, numpy, zipfile and zlib raise a dozen kinds
        raise ForestError(f"is no archive of plain arrays: {error}") from error


def _check(archive: ZipFile) -> None:
    members = archive.infolist()
    n_bytes = sum(member.file_size for member in members)
    if n_bytes > MAX_UNPACKED_BYTES:
        raise ForestError(f"{len(members):,} arrays of {n_bytes:,} bytes, where {MAX_UNPACKED_BYTES:,} are taken")
    if not {member.compress_type for member in members} <= _METHODS:
        raise ForestError("it is compressed in a way that numpy does not write")


def _unpack(archive: ZipFile, member: ZipInfo) -> bytes:
    """Unpack as many bytes as a member declares; `ZipFile.read` unpacks everything first and then counts."""
    with archive.open(member) as file:
        return file.read(member.file_size)


def _array(member: bytes) -> NDArray[Any]:
    """Return an array over a member's bytes, without a copy."""
    file = io.BytesIO(member)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ForestError("a header that numpy does not write for plain arrays")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    body = memoryview(member)[file.tell() :]
    if dtype.hasobject:
        raise ForestError("Object arrays cannot be loaded: they are pickled")
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ForestError(f"an array of shape {shape} in {len(body):,} bytes")
    return np.ndarray(shape, dtype, body, order="F" if is_fortran else "C")
