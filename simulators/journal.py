"""The journal: what a simulator must not forget, appended and synced to disk before anyone is answered.

Two files in one directory, each of JSON lines:

    journal.jsonl   every change to the books, in order; replayed at start. A record carries its effects.
    effects.jsonl   the effects alone, for tests to read. A projection: what a crash kept from it is written
    at start.

Writes that arrive while the disk is busy share the next sync, so the cost of a sync is shared by all who wait
for it. One process opens a directory at a time. A disk that fails stops the journal: nothing is promised
after that.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from simulators.effects import Effect, effect_line

EFFECTS_PAGE_MAX = 10_000


class DirectoryBusy(Exception):
    """Another process holds this data directory."""


class JournalBroken(Exception):
    """A write or a sync failed: what is in memory can no longer be promised."""


@dataclass
class _Batch:
    """What the next sync will cover, and the future of all who wait for it."""

    records: list[str]
    effects: list[str]
    synced: asyncio.Future[None]


class Journal:
    """Appends records and effects; `synced()` returns once everything appended so far is on disk.

    `clock` gives unix seconds. Start with `open()` in a running loop, end with `close()`.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._batch: _Batch | None = None
        self._in_flight: _Batch | None = None
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._effects_count = 0
        self.syncs_count = 0

    def open(self, replay: Callable[[dict[str, Any]], None]) -> None:
        """Lock the directory, hand every record to `replay` in order, complete the effect log, start writing.

        Raises DirectoryBusy when another process has it open.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self._directory / "lock")
        self._journal = _opened(self._directory / "journal.jsonl")
        self._effects = _opened(self._directory / "effects.jsonl")
        logged = sum(1 for _ in _lines(self.effects_path))
        for line in _lines(self._directory / "journal.jsonl"):
            record = json.loads(line)
            for effect in record.get("effects", ()):
                self._effects_count += 1
                if effect["n"] > logged:
                    self._effects.write(json.dumps(effect).encode() + b"\n")
            replay(record)
        os.fsync(self._effects.fileno())
        self._disk = ThreadPoolExecutor(1, "journal")
        self._writer = asyncio.create_task(self._write_batches(), name="journal")

    async def close(self) -> None:
        """Sync what is left and let the directory go."""
        if self._writer is None:
            return
        if self._failure is None:
            await self.synced()
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        self._disk.shutdown()
        for file in (self._journal, self._effects, self._lock):
            file.close()

    @property
    def effects_path(self) -> Path:
        """Where the effect log lies."""
        return self._directory / "effects.jsonl"

    def append(self, parts: dict[str, str], effects: Sequence[Effect] = ()) -> asyncio.Future[None]:
        """Queue a record, given as JSON texts by name, and its effects. The future ends when both are on disk.

        Several callers share the future: wait for it with `synced()`, or shield it. Raises JournalBroken.
        """
        if self._failure is not None:
            raise JournalBroken from self._failure
        if self._batch is None:
            self._batch = _Batch([], [], asyncio.get_running_loop().create_future())
            self._wake.set()
        lines = []
        for effect in effects:
            self._effects_count += 1
            lines.append(effect_line(effect, self._effects_count, int(self._clock() * 1000)))
        if lines:
            parts = {**parts, "effects": "[" + ",".join(lines) + "]"}
        self._batch.records.append("{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}")
        self._batch.effects.extend(lines)
        return self._batch.synced

    async def synced(self) -> None:
        """Return once all that was appended before this call is on disk. Raises JournalBroken."""
        if self._failure is not None:
            raise JournalBroken from self._failure
        last = self._batch or self._in_flight
        if last is not None:
            # Shielded: one caller that goes away must not cancel the sync for the rest of its group.
            await asyncio.shield(last.synced)

    async def read_effects(self, after: int, limit: int) -> list[dict[str, Any]]:
        """The synced effects numbered above `after`, at most `limit` (bounded by EFFECTS_PAGE_MAX)."""
        await self.synced()
        count = min(limit, EFFECTS_PAGE_MAX)
        return await asyncio.to_thread(
            lambda: [json.loads(line) for line in islice(_lines(self.effects_path), after, after + count)]
        )

    async def _write_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._batch = self._batch, None
            if batch is None:
                continue
            self._in_flight = batch
            try:
                await loop.run_in_executor(self._disk, self._write, batch)
            except OSError as error:
                self._fail(error, batch)
                return
            self._in_flight = None
            self.syncs_count += 1
            batch.synced.set_result(None)

    def _write(self, batch: _Batch) -> None:
        # The journal first: after a crash the effect log can be completed from it, never the other way round.
        self._journal.write(("\n".join(batch.records) + "\n").encode())
        os.fdatasync(self._journal.fileno())
        if batch.effects:
            self._effects.write(("\n".join(batch.effects) + "\n").encode())
            os.fdatasync(self._effects.fileno())

    def _fail(self, error: OSError, batch: _Batch) -> None:
        self._failure = error
        for waiting in (batch, self._batch):
            if waiting is not None:
                waiting.synced.set_exception(JournalBroken(str(error)))


def _locked(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise DirectoryBusy(f"{path.parent} is open in another process") from None
    return file


def _opened(path: Path) -> IO[bytes]:
    """The file for appending, without the torn last line that a crash may have left."""
    file = path.open("a+b", buffering=0)
    size = file.seek(0, os.SEEK_END)
    keep = size
    while keep > 0:
        start = max(0, keep - 65_536)
        file.seek(start)
        block = file.read(keep - start)
        found = block.rfind(b"\n")
        keep = start + found + 1 if found >= 0 else start
        if found >= 0:
            break
    if keep < size:
        file.truncate(keep)
    return file


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        # A line without its break is still being written.
        yield from (line for line in file if line.endswith(b"\n"))
