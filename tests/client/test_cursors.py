"""A cursor on disk is the old one or the new one."""

import os
from pathlib import Path

import pytest

from obol.client import FileCursorStore


def test_a_cursor_comes_back(tmp_path: Path) -> None:
    """What was saved last is loaded, by another store too; before the first there is none."""
    store = FileCursorStore(tmp_path / "cursor")
    assert store.load() == ""
    store.save("c1")
    store.save("c2")
    assert FileCursorStore(tmp_path / "cursor").load() == "c2"
    assert [path.name for path in tmp_path.iterdir()] == ["cursor"]


def test_a_disk_that_fails_leaves_the_old_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the sync fails the error is raised, and the old cursor is still whole and alone."""
    store = FileCursorStore(tmp_path / "cursor")
    store.save("c1")

    def fail(descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        store.save("c2")
    assert store.load() == "c1"
    assert [path.name for path in tmp_path.iterdir()] == ["cursor"]


def test_the_bytes_are_synced_before_they_take_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then name, then directory: a crash in between never leaves an empty cursor."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112  a link
        fsync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        steps.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    FileCursorStore(tmp_path / "cursor").save("c1")
    assert steps == ["file", "name", "directory"]


@pytest.mark.parametrize("content", [b"", b"c1\n", b"\xff", b"c" * 1_025])
def test_a_file_that_holds_no_cursor_is_not_the_beginning(tmp_path: Path, content: bytes) -> None:
    """A damaged place is an error: beginning again in silence would hand every observation out twice."""
    (tmp_path / "cursor").write_bytes(content)
    with pytest.raises(ValueError, match="holds no cursor"):
        FileCursorStore(tmp_path / "cursor").load()
