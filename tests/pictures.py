"""What tests of pictures share."""

import struct
from pathlib import Path


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])
