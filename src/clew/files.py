"""Files and folders that are written whole or not at all, whatever ends the process and however full the disk is."""

import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clew.errors import InputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with naming(path), beside.open("wb") as file:
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives a full disk's error the path that was being written, and its number where a library kept that as text."""
    try:
        yield
    except Exception as error:
        found = re.search(r"\((?:os error|errno:?) (\d+)\)|[Ee]rrno (\d+)\b", str(error))
        number = getattr(error, "errno", None) or (int(found[1] or found[2]) if found else None)
        if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Gives a folder to fill beside `path`, and puts it in `path`'s place when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    put_back(path)
    remove(beside)
    try:
        with naming(path):
            beside.mkdir()
            yield beside
            for file in beside.rglob("*"):
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
        if os.path.lexists(path):
            os.replace(path, old)
        os.replace(beside, path)
    finally:
        put_back(path)
        remove(beside)


def check_writable(name: str, folder: Path) -> None:
    """InputError, which names the option, for a folder that cannot be made or written to. Leaves nothing behind: this
    is for before the work."""
    there = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise InputError(f"{name}: {there} is a file, where a folder was expected")
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=there):
            pass
    except OSError as error:
        raise InputError(f"{name}: {folder} cannot be written to ({error.strerror}); choose another place") from None


def put_back(path: Path) -> None:
    """Puts a folder back that was set aside for a new one and is still missing it; else drops what was set aside."""
    old = path.with_name(f".{path.name}.old")
    if os.path.lexists(old) and not os.path.lexists(path):
        os.replace(old, path)
    remove(old)


def remove(path: Path) -> None:
    """Removes a folder with all that is in it, a file or a link, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def strict_json(value: Any, **how: Any) -> str:
    """Anything as JSON that every parser reads, since it holds no NaN; how: options of `json.dumps`."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except (ValueError, TypeError):  # a number that is not finite, or a value of some other library's type
        return json.dumps(_plain(value), allow_nan=False, **how)


def _plain(value: Any) -> Any:
    """The value as JSON has it: numbers that are not finite as null, arrays as lists, what else there is as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, strict_json(value, indent=2) + "\n")
