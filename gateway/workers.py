"""Several gateway processes behind one port: forked, watched, started again, and ended together.

Knows processes and no gRPC, which must not be loaded before a fork.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

RESTART_S = 0.5
RESTART_S_MAX = 30.0
SETTLED_S = 60.0
"""A worker that lived this long had started well: its next restart waits RESTART_S again."""

TURN_S = 0.2
CONFIG_EXIT = 2
_PR_SET_PDEATHSIG = 1

Worker = Callable[[int], int]


@dataclass(slots=True)
class _Seat:
    """One worker's place; `pid` 0 while it is empty. Times by the monotonic clock, in seconds."""

    number: int
    pid: int = 0
    started_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0


class Supervisor:
    """Runs `worker(number)` in `count` processes until SIGTERM or SIGINT; its result is the process's exit code.

    `stop_s_max` is how long workers may take to end before they are killed. `tell` gets one line for each event.
    """

    def __init__(self, worker: Worker, count: int, *, stop_s_max: float, tell: Callable[[str], None]) -> None:
        self._worker = worker
        self._seats = [_Seat(number) for number in range(count)]
        self._stop_s_max = stop_s_max
        self._tell = tell

    def run(self) -> int:
        """0 after an orderly end; 1 where a worker had to be killed; 2 where one says that its settings are wrong."""
        awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
        # Blocked and taken one by one: a handler could run between the look and the wait, and be missed.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            while True:
                self._fill()
                taken = signal.sigtimedwait(awaited, TURN_S)
                if self._reap() == CONFIG_EXIT:
                    self._tell("a worker's settings are wrong, which no restart mends: stopping")
                    self._stop()
                    return CONFIG_EXIT
                if taken is not None and taken.si_signo != signal.SIGCHLD:
                    return 0 if self._stop() else 1
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _fill(self) -> None:
        for seat in self._seats:
            if not seat.pid and time.monotonic() >= seat.due_s:
                seat.started_s = time.monotonic()
                seat.pid = self._fork(seat.number)

    def _fork(self, number: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            _end_with(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
            code = self._worker(number)
        finally:
            # Not sys.exit: what the parent has open and registered is the parent's to close.
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(code)

    def _reap(self) -> int | None:
        """Clear the seats of workers that have ended; CONFIG_EXIT where one of them ended with it."""
        wrong = None
        for seat in self._seats:
            if not seat.pid:
                continue
            pid, status = os.waitpid(seat.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            now_s = time.monotonic()
            seat.failures = 0 if now_s - seat.started_s >= SETTLED_S else seat.failures + 1
            pause_s = min(RESTART_S_MAX, RESTART_S * 2 ** max(0, seat.failures - 1))
            seat.pid, seat.due_s = 0, now_s + pause_s
            if code == CONFIG_EXIT:
                wrong = CONFIG_EXIT
            else:
                self._tell(
                    f"worker {seat.number} (process {pid}) ended with {code}; starting it again in {pause_s:g} s"
                )
        return wrong

    def _stop(self) -> bool:
        """End every worker; False where one had to be killed."""
        self._signal(signal.SIGTERM)
        until_s = time.monotonic() + self._stop_s_max
        while self._alive() and time.monotonic() < until_s:
            signal.sigtimedwait({signal.SIGCHLD}, TURN_S)
        killed = [seat.number for seat in self._seats if seat.pid]
        self._signal(signal.SIGKILL)
        for seat in self._seats:
            if seat.pid:
                os.waitpid(seat.pid, 0)
        if killed:
            self._tell(f"workers {killed} did not end within {self._stop_s_max:g} s and were killed")
        return not killed

    def _alive(self) -> bool:
        for seat in self._seats:
            if seat.pid and os.waitpid(seat.pid, os.WNOHANG)[0]:
                seat.pid = 0
        return any(seat.pid for seat in self._seats)

    def _signal(self, number: signal.Signals) -> None:
        for seat in self._seats:
            if seat.pid:
                os.kill(seat.pid, number)


def _end_with(parent: int) -> None:
    """Get SIGTERM when the supervisor is gone, however it went: nobody would start or end this worker any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
