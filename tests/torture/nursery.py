"""The nursery: a process that has imported everything and forks `obol` processes, each ready in a tenth of a second.

Importing what a gateway needs takes 2.4 s of processor time, which two thousand kills cannot pay. Nothing of gRPC runs
in here before a fork: modules are loaded, no channel, server, loop or thread is made.

    {"start": ["serve"], "environment": {...}, "log": "/path"}     answered with {"pid": 123}
    {"reap": 123}                                                  answered with {"status": 9}: 128 + n for signal n

One JSON object a line on standard input; its end ends every child. A child stays a zombie until it is reaped, so that
no pid is ever another process's.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

FLIGHT = "TORTURE_FLIGHT_S"
"""The environment variable that says how long a request can be in flight at most, in seconds."""
STALL = "TORTURE_STALL"
"""The environment variable with a file's path: where it is there, the next call to a provider stops its process."""
LOADED = (
    "gateway.cli",
    "gateway.config",
    "gateway.logs",
    "gateway.main",
    "store.open",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "webhook_http.server",
)
"""What the children would load one by one, each time; beside what the tortured provider has."""
OF_PROVIDER = ("providers.{}.adapter", "providers.{}.callbacks", "simulators.{}.__main__")
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until standard input ends. The one argument is the provider's name."""
    provider = sys.argv[1]
    _load(provider)
    children: set[int] = set()
    _say({"pid": os.getpid()})
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            child = _fork(asked, provider)
            children.add(child)
            _say({"pid": child})
        else:
            _, status = os.waitpid(asked["reap"], 0)
            children.discard(asked["reap"])
            code = os.waitstatus_to_exitcode(status)
            _say({"status": code if code >= 0 else 128 - code})
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _load(provider: str) -> None:
    for name in (*LOADED, *(each.format(provider) for each in OF_PROVIDER)):
        importlib.import_module(name)
    gc.collect()
    # What the children share stays shared.
    gc.freeze()


def _fork(asked: dict[str, Any], provider: str) -> int:
    parent = os.getpid()
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            code = _become(asked, provider)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(asked: dict[str, Any], provider: str) -> int:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(asked["environment"])
    try:
        _run(asked["start"], provider)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  the log shows it, as the interpreter would have
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _run(arguments: list[str], provider: str) -> None:
    if arguments[0] == "imitation":
        # By its own entry point, which can be told how long it hangs.
        importlib.import_module(f"simulators.{provider}.__main__").main(arguments[1:])
        return
    _shorten(provider, int(os.environ.pop(FLIGHT)))
    if arguments[0] == "serve":
        _sign_calls()
        if flag := os.environ.pop(STALL, ""):
            _stall_at(flag)
    from gateway.cli import main as obol

    sys.argv = ["obol", *arguments]
    obol()


def address_of(pid: int) -> str:
    """This machine's address that only the process `pid` calls from."""
    return f"127.{pid >> 16 & 0xFF}.{pid >> 8 & 0xFF}.{pid & 0xFF}"


def _sign_calls() -> None:
    """Call providers from an address of this process's own, so that a relay can tell it from its next life."""
    import aiohttp

    own = partialmethod(aiohttp.TCPConnector.__init__, local_addr=(address_of(os.getpid()), 0))
    setattr(aiohttp.TCPConnector, "__init__", own)  # noqa: B010  its type says that nobody does


def _stall_at(name: str) -> None:
    """Stand still between claim and send where a file `name` is there: from outside that moment cannot be met."""
    from gateway.app.engine import Engine

    flag, call = Path(name), Engine.call

    async def stalled(*arguments: Any) -> Any:
        with contextlib.suppress(FileNotFoundError):
            flag.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        return await call(*arguments)

    setattr(Engine, "call", stalled)  # noqa: B010  its type says that nobody does


def _shorten(provider: str, flight_s_max: int) -> None:
    """A duration as the others are, but a fact of the provider's and no setting: nothing here is in flight longer."""
    from providers.registry import BUILT_IN

    module_name, _, builder = BUILT_IN[provider].partition(":")
    module = importlib.import_module(module_name)
    adapter = getattr(module, getattr(module, builder).__annotations__["return"])
    whole = adapter.capabilities.fget
    adapter.capabilities = property(lambda own: replace(whole(own), flight_s_max=flight_s_max))


def _say(answer: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
