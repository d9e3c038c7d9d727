"""Processes that can be killed at any instant and started again at once, out of the nursery."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KILLED = 128 + signal.SIGKILL
TERMINATED = 128 + signal.SIGTERM
"""Asked to end before it could take the word."""


class Nursery:
    """Forks processes for the torture of `provider`; leaving the block kills all of them."""

    def __init__(self, provider: str = "sandbox") -> None:
        self._provider = provider
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.torture.nursery", self._provider),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await self._answer()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """The pid of a new `obol <arguments>`."""
        asked = {"start": list(arguments), "environment": dict(environment), "log": str(log)}
        return int((await self._ask(asked))["pid"])

    async def reap(self, pid: int) -> int:
        """Wait for the end of a child that is ending; its exit code, 128 + n for signal n."""
        return int((await self._ask({"reap": pid}))["status"])

    async def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        # Shielded: an answer that nobody reads would be taken for the next one's.
        return await asyncio.shield(asyncio.create_task(self._exchange(asked)))

    async def _exchange(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        async with self._asking:
            if self._process is None or self._process.stdin is None:
                raise RuntimeError("the nursery is not open")
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the nursery is not open")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the nursery has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Process:
    """One `obol` process, which is started again and again."""

    def __init__(
        self, nursery: Nursery, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        self.ended = asyncio.Event()
        self.ended.set()
        self.exits: list[int] = []
        """How each of its lives ended."""
        self._nursery = nursery
        self._arguments = arguments
        self._environment = environment
        self._watching: asyncio.Task[None] | None = None
        self._gone = False
        self._doomed = False

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return not (self.ended.is_set() or self._gone)

    @property
    def is_doomed(self) -> bool:
        """Whether it has ended, or was told to: what it does now is its end's doing."""
        return self._doomed or not self.alive

    @property
    def stands_still(self) -> bool:
        """Whether it is stopped and not ended."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    async def start(self) -> None:
        """Start it; it serves a little later."""
        await self.ended.wait()
        self.pid = await self._nursery.start(self._arguments, self._environment, self.log)
        self.ended, self._gone, self._doomed = asyncio.Event(), False, False
        self._watching = asyncio.create_task(self._watch(self.pid, self.ended), name=f"watch {self.name}")

    def signal(self, number: int) -> bool:
        """Send a signal now; False where there is nobody to get it."""
        if not self.alive:
            return False
        self._doomed = self._doomed or number in (signal.SIGKILL, signal.SIGTERM)
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        """End it as a power failure would, this instant."""
        return self.signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> bool:
        """End it in order; False where it had to be killed."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self.ended.wait()
        except TimeoutError:
            self.kill()
            await self.ended.wait()
            return False
        return True

    async def _watch(self, pid: int, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        descriptor = os.pidfd_open(pid)
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
            # Before it is reaped: from then on its pid may be another's.
            self._gone = True
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self.exits.append(await self._nursery.reap(pid))
        ended.set()

    def tail(self, lines: int = 25) -> list[str]:
        """The last lines of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 64 * 1024))
            return log.read().decode(errors="replace").splitlines()[-lines:]
        return []
