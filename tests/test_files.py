"""Written whole or not at all: a full disk, a kill between two renames, an interrupt."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clew.errors import InputError
from clew.files import check_writable, folder_written_whole, naming, write_atomically
from clew.mazes.vocab import maze_tokenizer


@contextmanager
def full(room: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system refuses to write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(OSError, match="File too large") as caught, full(1000):
        write_atomically(path, "x" * 2000)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_place_is_tried_before_the_work(tmp_path: Path) -> None:
    check_writable("out", tmp_path / "not" / "yet" / "there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for out in ("file", "file/under/it"):
        with pytest.raises(InputError, match=f"^out: {tmp_path}/file is a file, where a folder was expected"):
            check_writable("out", tmp_path / out)
    with pytest.raises(InputError, match=r"^out: /proc/no cannot be written to \(.*\); choose another place"):
        check_writable("out", Path("/proc/no"))


@pytest.mark.parametrize("what", ["tensors", "tokenizer", "bytes"])
def test_a_folder_that_does_not_fit_leaves_the_old_one(tmp_path: Path, what: str) -> None:
    """Whatever library finds that out: each has an exception of its own."""
    path = tmp_path / "folder"
    with folder_written_whole(path) as part:
        (part / "old").write_text("old")
    with pytest.raises(OSError, match="File too large") as caught, full(1000), folder_written_whole(path) as part:
        if what == "tensors":
            save_file({"a": torch.zeros(2000)}, part / "a.safetensors")
        elif what == "tokenizer":
            maze_tokenizer(3).backend_tokenizer.save(str(part / "tokenizer.json"))
        else:
            (part / "a").write_bytes(bytes(2000))
    assert caught.value.filename == str(path)
    assert (path / "old").read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ValueError, match="errno 2"), naming(Path("x")):
        raise ValueError("errno 2")


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".folder.old").mkdir()
    (tmp_path / ".folder.old" / "file").write_text("old")
    (tmp_path / ".folder.part").mkdir()
    with pytest.raises(KeyboardInterrupt), folder_written_whole(tmp_path / "folder") as part:
        (part / "file").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with folder_written_whole(tmp_path / "folder") as part:
        (part / "file").write_text("new")
    assert (tmp_path / "folder" / "file").read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_a_link_in_a_folders_place_gives_way(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "folder"
    for place in (path, tmp_path / ".folder.part"):
        place.write_text("5") if kind == "file" else place.symlink_to("nowhere")
    with folder_written_whole(path) as part:
        (part / "file").write_text("new")
    assert (path / "file").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
