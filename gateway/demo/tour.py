"""The tour: sets everything up, plays the scenes, compares the books, and takes everything down again."""

import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.text import Text

from gateway.demo import wording
from gateway.demo.billing import CONSUMER, Billing
from gateway.demo.figures import read_books
from gateway.demo.imitation import IMITATIONS
from gateway.demo.installation import ACCOUNT, Installation
from gateway.demo.process import ProcessDied, TookTooLong, wait_until
from gateway.demo.provider import PROVIDERS, ProviderSide, UnexpectedAnswer
from gateway.demo.reckoning import Reckoning, reckon, unknown
from gateway.demo.scenes import Stage, scenes
from gateway.demo.telling import Telling, telling
from obol.client import GatewayError, OperationsClient, Operator, channel
from obol.v1.billing_observation_pb2 import GetConsumerRequest
from obol.v1.operations_pb2 import ListProvidersRequest, ProviderAccount

QUIET_S_MAX = 20.0
FAILED = 1
MISUSED = 2
INTERRUPTED = 130
ENDING = (signal.SIGTERM, signal.SIGHUP)
FORESEEN = (ProcessDied, TookTooLong, UnexpectedAnswer, GatewayError, OSError, sqlite3.Error)
"""What needs no traceback: its words say what happened."""


def run(*, keep: Path | None = None, quiet: bool = False, provider: str = "sandbox") -> int:
    """Play the demo; the exit code: 0 where everything agrees, 1 where not, 2 for what was asked wrongly.

    `keep` is an empty or new directory in which the database and logs stay. The last line of standard output has the
    figures.
    """
    if provider not in PROVIDERS:
        _complain(f"--provider: the demo plays {', '.join(PROVIDERS)}, not {provider}")
        return MISUSED
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        _complain(f"--keep: {keep} is there already and not an empty directory; name another")
        return MISUSED
    # A terminal that cannot show a character shows a question mark, rather than ending the play.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        with _ended_by_signals(), _directory(keep) as directory:
            installed = Installation(directory, imitation=IMITATIONS[provider], away=True)
            try:
                return _told(installed, provider, telling(quiet=quiet), kept=keep is not None)
            finally:
                _take_down(installed)
    except KeyboardInterrupt:
        _complain("interrupted; every process is ended")
        return INTERRUPTED


def _told(installed: Installation, provider: str, told: Telling, *, kept: bool) -> int:
    """Play, and say how it went."""
    try:
        reckoning = _play(installed, PROVIDERS[provider](installed), told, kept=kept)
    except BrokenPipeError:
        # Whoever read has seen enough, as `head` does.
        return FAILED
    except Exception as error:  # noqa: BLE001  whatever went wrong, a person gets its words and the logs
        if not isinstance(error, FORESEEN):
            traceback.print_exc()
        _complain(f"failed: {type(error).__name__}: {error}")
        _show_logs(installed)
        return FAILED
    for violation in reckoning.violations:
        _complain(f"violation: {violation}")
    if not reckoning.agrees:
        _show_logs(installed)
    print(f"demo: {reckoning}", flush=True)
    return 0 if reckoning.agrees else FAILED


def _play(installed: Installation, provider: ProviderSide, told: Telling, *, kept: bool) -> Reckoning:
    began_s = time.monotonic()
    with told.waiting("Starting a provider, a gateway and a sidecar"):
        installed.start()
    told.say(wording.opening(installed, kept=kept))
    with Billing(installed.target, installed.directory, told.hear) as billing:

        def check() -> None:
            installed.check()
            billing.check()

        stage = Stage(billing, provider, _account(installed), told, check)
        for number, scene in enumerate(scenes(stage), start=1):
            with told.scene(number, scene.title, scene.notice):
                scene.play(stage)
                _accepted(stage)
        with told.waiting("Waiting until nothing is open"):
            _settle(installed, stage)
        reckoning = reckon(
            read_books(installed.database),
            provider.effects(),
            consumer=CONSUMER,
            seen=billing.ledger.ids,
            seen_otherwise=tuple(stage.otherwise),
        )
    told.say(Text.assemble("\n", wording.closing(reckoning, time.monotonic() - began_s)))
    return reckoning


def _account(installed: Installation) -> ProviderAccount:
    """What the gateway says that its account can do, as an operator asks it."""
    with channel(installed.target) as asking:
        told = OperationsClient(asking, Operator("demo")).list_providers(ListProvidersRequest())
    return next(each for each in told.accounts if each.account_id == ACCOUNT)


def _accepted(stage: Stage) -> None:
    """Let a scene end when Billing has accepted what it brought."""
    asked = GetConsumerRequest(consumer=CONSUMER)
    wait_until(
        lambda: not stage.billing.observations.get_consumer(asked).undecided_count,
        "Billing has accepted every observation",
        within_s=QUIET_S_MAX,
        meanwhile=stage.check,
    )


def _settle(installed: Installation, stage: Stage) -> None:
    """Wait until nothing is open; where that does not come, the figures shall say so."""
    try:
        wait_until(
            lambda: _settled(installed, stage),
            "every callback is applied, every observation accepted and nothing unknown",
            within_s=QUIET_S_MAX,
            meanwhile=stage.check,
        )
    except TookTooLong as late:
        stage.expect(False, str(late))


def _settled(installed: Installation, stage: Stage) -> bool:
    """Whether nothing is on its way any more. In this order: a delivered callback is in the inbox before it is gone."""
    if stage.provider.callbacks_pending():
        return False
    books = read_books(installed.database)
    open_ids = {each.observation_id for each in books.observations} - books.accepted(CONSUMER)
    return not books.callbacks_live and not open_ids and not unknown(books)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="obol-demo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as a Ctrl-C does: in order, with every process of ours."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_down(installed: Installation) -> None:
    """End every process. A second Ctrl-C does not end this: it takes a few seconds at most."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDING)}
    try:
        for name in installed.stop():
            _complain(f"the {name} did not end by itself and was killed")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_logs(installed: Installation) -> None:
    for process in installed.processes:
        _complain(f"the end of {process.log}:")
        for line in process.tail():
            print(f"  {line}", file=sys.stderr)


def _complain(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)
