"""The telling: the story as it happens, on a terminal, as plain lines, or not at all.

On a terminal a scene is a block that grows while it plays: what is done on the left, what Billing observes on the right
(or in turn, where the terminal is narrow). Observations come from another thread than the rest.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gateway.demo import wording
from obol.v1.observation_pb2 import Observation

BESIDE_COLUMNS_MIN = 130
REFRESHES_PER_S = 12
INDENT = " " * (wording.WHO_WIDTH + 2)


class Telling(Protocol):
    """Whoever tells the story."""

    def say(self, words: Text | wording.Line) -> None:
        """Something happened."""
        ...

    def hear(self, seen: Observation) -> None:
        """Billing observed something; from any thread."""
        ...

    def scene(self, number: int, title: str, notice: str) -> AbstractContextManager[None]:
        """A scene, for as long as the block lasts."""
        ...

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Something takes a while."""
        ...


class Silence:
    """Tells nothing."""

    def say(self, words: Text | wording.Line) -> None:
        """Nothing."""

    def hear(self, seen: Observation) -> None:
        """Nothing."""

    @contextmanager
    def scene(self, number: int, title: str, notice: str) -> Iterator[None]:
        """Nothing."""
        yield

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Nothing."""
        yield


class Lines:
    """Plain lines, one for each thing, as long as they are: for a pipe, a file or a log."""

    def __init__(self) -> None:
        self._heard = 0
        self._turn = threading.Lock()

    def say(self, words: Text | wording.Line) -> None:
        """The words."""
        with self._turn:
            print(words.plain, flush=True)

    def hear(self, seen: Observation) -> None:
        """An indented line."""
        with self._turn:
            self._heard += 1
            what, provenance = wording.observation(self._heard, seen)
            print(f"{INDENT}observed {what.plain} ({provenance.plain})", flush=True)

    @contextmanager
    def scene(self, number: int, title: str, notice: str) -> Iterator[None]:
        """A heading and a sentence."""
        with self._turn:
            print(f"\n{wording.heading(number, title).plain}\n   {notice}", flush=True)
        yield

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A line."""
        self.say(Text(f"{what} ..."))
        yield


class Screen:
    """A terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._heard = 0
        self._block: _Block | None = None
        self._turn = threading.RLock()

    def say(self, words: Text | wording.Line) -> None:
        """On the left."""
        with self._turn:
            if self._block is None:
                self._console.print(words)
            else:
                self._block.said(words)

    def hear(self, seen: Observation) -> None:
        """On the right."""
        with self._turn:
            self._heard += 1
            what, provenance = wording.observation(self._heard, seen)
            both = Group(what, Padding(provenance, (0, 0, 0, len(f"#{self._heard} "))))
            if self._block is None:
                self._console.print(Padding(both, (0, 0, 0, len(INDENT))))
            else:
                self._block.heard(both)

    @contextmanager
    def scene(self, number: int, title: str, notice: str) -> Iterator[None]:
        """A block that grows, and stays when the scene is over."""
        block = _Block(number, title, notice)
        with Live(block, console=self._console, refresh_per_second=REFRESHES_PER_S, vertical_overflow="visible"):
            with self._turn:
                self._block = block
            try:
                yield
            finally:
                with self._turn:
                    self._block = None
                    block.over = True

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A spinner that leaves nothing behind."""
        with self._console.status(what):
            yield


class _Block:
    """A scene on a terminal, drawn anew at each refresh."""

    def __init__(self, number: int, title: str, notice: str) -> None:
        self._title = wording.heading(number, title)
        self._notice = Text(notice, "italic")
        self._spinner = Padding(Spinner("dots", style="dim"), (0, 0, 0, wording.WHO_WIDTH))
        self._said: list[RenderableType] = []
        self._heard: list[RenderableType] = []
        self._in_turn: list[RenderableType] = []
        self.over = False

    def said(self, words: RenderableType) -> None:
        """For the left."""
        self._said.append(words)
        self._in_turn.append(words)

    def heard(self, words: RenderableType) -> None:
        """For the right."""
        self._heard.append(words)
        self._in_turn.append(Padding(words, (0, 0, 0, len(INDENT))))

    def __rich_console__(self, console: Console, _: object) -> Iterator[RenderableType]:
        going_on = [] if self.over else [self._spinner]
        yield Text()
        yield Rule(self._title, align="left", style="dim")
        yield Padding(self._notice, (0, 0, 0, 3))
        if console.width < BESIDE_COLUMNS_MIN:
            yield Group(*self._in_turn, *going_on)
            return
        columns = Table.grid(padding=(0, 2), expand=True)
        columns.add_column(ratio=1)
        columns.add_column(ratio=1)
        columns.add_row(Group(*self._said, *going_on), Group(*self._heard))
        yield columns


def telling(*, quiet: bool) -> Telling:
    """The one that fits: silent when asked, live on a terminal, lines elsewhere."""
    if quiet:
        return Silence()
    console = Console(highlight=False)
    return Screen(console) if console.is_terminal else Lines()
