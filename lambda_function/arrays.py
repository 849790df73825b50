"""Plain arrays out of an .npz: what it claims to hold is checked before memory is taken for it.

`np.load` believes what it reads: 100 bytes can declare an array of a terabyte, and 16 MB can unpack to 16 GB. Here an
archive is refused by what it declares, and gives no more than it has declared.
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
"""All arrays together. A forest of 400 trees has 0.3 MB."""

_SUFFIX = ".npy"
_METHODS = {ZIP_STORED, ZIP_DEFLATED}  # what numpy writes; the others unpack as much as they like at once


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Reads an archive's arrays by name; they cannot be written to.

    Raises:
        ForestError: It is none, is too large, or holds something else than plain arrays.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            _check(archive)
            return {one.filename.removesuffix(_SUFFIX): _array(_unpack(archive, one)) for one in archive.infolist()}
    except BadZipFile as error:
        raise ForestError(f"is no archive of plain arrays: {error}, and no pickle is read") from error
    except Exception as error:  # of damaged bytes numpy, zipfile and zlib raise a dozen kinds
        raise ForestError(f"is no archive of plain arrays: {error}") from error


def _check(archive: ZipFile) -> None:
    members = archive.infolist()
    n_bytes = sum(member.file_size for member in members)
    if len(members) > MAX_ARRAYS or n_bytes > MAX_UNPACKED_BYTES:
        raise ForestError(f"{len(members):,} arrays of {n_bytes:,} bytes, where {MAX_UNPACKED_BYTES:,} are taken")
    if not {member.compress_type for member in members} <= _METHODS:
        raise ForestError("it is compressed in a way that numpy does not write")


def _unpack(archive: ZipFile, member: ZipInfo) -> bytes:
    """Unpacks as many bytes as a member has declared: `ZipFile.read` unpacks all that there are, and then counts."""
    with archive.open(member) as file:
        return file.read(member.file_size)


def _array(member: bytes) -> NDArray[Any]:
    """Lays an array over a member's bytes: none are copied, and none can be missing."""
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
