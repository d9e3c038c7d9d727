"""Where a consumer keeps its place: a cursor that is either the old one or the new one, whatever happens in between."""

import os
import tempfile
from pathlib import Path
from typing import Protocol

CURSOR_CHARACTERS_MAX = 1_024


class CursorStore(Protocol):
    """Keeps one cursor. `save` returns when it is durable; best, in the transaction that keeps what was observed."""

    def load(self) -> str:
        """The cursor that was saved last; empty before the first."""
        ...

    def save(self, cursor: str) -> None:
        """Keep it."""
        ...


class FileCursorStore:
    """One cursor in one file, replaced whole and synced. One consumer a file; its directory must exist."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> str:
        """Raises ValueError where the file holds no cursor: beginning again in silence would be worse."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ""
        if not content or len(content) > CURSOR_CHARACTERS_MAX or not all(0x21 <= byte <= 0x7E for byte in content):
            raise ValueError(f"{self._path} holds no cursor")
        return content.decode("ascii")

    def save(self, cursor: str) -> None:
        """Raises OSError where the disk does not keep it; the old one is still there then."""
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(cursor.encode("ascii"))
                file.flush()
                # Synced before it takes the old one's name: a crash leaves one of the two, never an empty file.
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_directory(self._path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
