"""One process of ours: started, watched, heard, and ended, also when we are killed ourselves."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

LOOK_S = 0.02
TAIL_LINES = 25
TAIL_BYTES_MAX = 256 * 1024

# Asks the kernel for SIGTERM when whoever started it is gone, then becomes the program. In a process of its own and not
# as `preexec_fn`, which would fork a process that has gRPC's threads.
_END_WITH_PARENT = (
    "import ctypes, os, signal, sys; "
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class ProcessDied(Exception):
    """A process ended by itself. Names it, its exit code and its log."""


class TookTooLong(Exception):
    """What was waited for did not come in time."""


class Process:
    """`obol <arguments>` of this Python environment. Its output is added to the file `log`.

    The kernel ties it to the thread that calls `start`: call it from one that lives as long as the process shall.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = (sys.executable, "-P", "-m", "gateway.cli", *arguments)
        self._environment = environment
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 before its start, and after an end that was asked for here."""
        return 0 if self._running is None else self._running.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        """Start it, also after an end. Returns before it is ready."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        command = list(self._arguments)
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, str(os.getpid()), *command]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                command,
                cwd=self.log.parent,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C at the terminal is ours to answer: the process is ended in order, not beside us.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises ProcessDied unless it lives."""
        if not self.running:
            code = "nothing" if self._running is None else str(self._running.returncode)
            raise ProcessDied(f"the {self.name} ended by itself with {code}")

    def terminate(self) -> None:
        """Ask it to end, if it lives."""
        if self._running is not None and self.running:
            self._running.terminate()

    def kill(self) -> None:
        """End it without a word, as a power failure would, and wait for it."""
        if self._running is not None and self.running:
            self._running.send_signal(signal.SIGKILL)
            self._running.wait()
        self._running = None

    def stop(self, *, grace_s: float) -> bool:
        """End it in order; False where it had to be killed."""
        self.terminate()
        return self.ended(by_s=time.monotonic() + grace_s)

    def ended(self, *, by_s: float) -> bool:
        """Wait for its end until a moment of the monotonic clock, then kill it; False where that was needed."""
        if self._running is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running.wait(max(0.0, by_s - time.monotonic()))
            self._running = None
            return True
        self.kill()
        return False

    def tail(self, lines: int = TAIL_LINES) -> list[str]:
        """The last lines of its log."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES_MAX))
            return log.read().decode(errors="replace").splitlines()[-lines:]


def stop_all(processes: Iterable[Process], *, grace_s: float) -> list[str]:
    """End them together, each in order, and kill what is left after `grace_s`; the names of those."""
    ending = list(processes)
    for process in ending:
        process.terminate()
    by_s = time.monotonic() + grace_s
    return [process.name for process in ending if not process.ended(by_s=by_s)]


def wait_until(
    condition: Callable[[], bool], what: str, *, within_s: float, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Look again and again until `condition` holds. `meanwhile` may raise what makes waiting pointless.

    Raises TookTooLong, which says `what` did not come.
    """
    by_s = time.monotonic() + within_s
    while not condition():
        meanwhile()
        if time.monotonic() >= by_s:
            raise TookTooLong(f"{what}: not within {within_s:g} s")
        time.sleep(LOOK_S)
