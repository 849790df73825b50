"""A zip whose bytes depend on what is in it alone: no clock, no order of a folder, no umask.

So two builds of one commit have one digest, and who builds it anew can tell that the deployed code is that commit's.
"""

import hashlib
import stat
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can tell
_UNIX = 3
_LEVEL = 9
_READABLE, _EXECUTABLE = 0o644, 0o755  # Lambda runs as another user than the files' owner


def write_archive(folder: Path, path: Path) -> str:
    """Zips what is in a folder.

    Args:
        folder: What to zip; its own name is not in the zip.
        path: The zip; replaced where it exists.

    Returns:
        The zip's SHA-256 in hex. It holds for one version of zlib: another may pack the same files otherwise.
    """
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    with ZipFile(path, "w") as archive:
        for name, file in sorted(files.items()):
            archive.writestr(_entry(name, file), file.read_bytes(), compresslevel=_LEVEL)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _entry(name: str, file: Path) -> ZipInfo:
    entry = ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.compress_type = ZIP_DEFLATED
    mode = _EXECUTABLE if file.stat().st_mode & stat.S_IXUSR else _READABLE
    entry.external_attr = (stat.S_IFREG | mode) << 16
    return entry
