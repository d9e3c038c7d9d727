"""What every command shares: its settings, and how it ends. What a person can mend is told in a line each.

Exit codes: 0 done, 1 it failed, 2 it was asked or configured wrongly.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.rpc.address import Address

FAILED = 1
MISUSED = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; else OBOL_CONFIG, else ./obol.toml where there is one."),
]


def settings_of(config: Path | None, options: Mapping[str, Any] | None = None) -> "Settings":
    """The settings in effect; `options` go over files and environment. Raises ConfigError."""
    from gateway.config import load_settings

    return load_settings(config, options)


def address_of(settings: "Settings") -> "Address":
    """Where the gateway listens by its settings. Raises AddressRefused."""
    from gateway.rpc.address import loopback, unix

    if settings.grpc.unix_socket is not None:
        return unix(settings.grpc.unix_socket, "grpc.unix_socket")
    return loopback(settings.grpc.host, settings.grpc.port, "grpc.host")


@contextmanager
def plainly() -> Iterator[None]:
    """Let what a person can mend end in one line each, and anything else in its traceback."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        lines, code = _told(error)
        if not lines:
            raise
        end("\n".join(lines), code)


def _told(error: Exception) -> tuple[list[str], int]:
    """The lines and the exit code for `error`; no lines for a defect of ours."""
    from gateway.config import ConfigError
    from gateway.domain.errors import ObolError
    from gateway.rpc.address import AddressRefused, AddressTaken

    match error:
        case ConfigError(problems=problems):
            return problems, MISUSED
        case AddressTaken():
            return [str(error)], FAILED
        case AddressRefused():
            return [str(error)], MISUSED
        case ObolError() | OSError():
            return [str(error)], FAILED
        case _:
            return _told_of_parts(error)


def _told_of_parts(error: Exception) -> tuple[list[str], int]:
    from providers.registry import RegistryError
    from store import SchemaBehind, SchemaBeyond

    match error:
        case RegistryError():
            return [f"providers: {error}"], MISUSED
        case SchemaBehind() | SchemaBeyond():
            return [str(error)], FAILED
        case _:
            return [], FAILED


@contextmanager
def taken(setting: str, port: int) -> Iterator[None]:
    """Say which setting names the port that could not be had."""
    try:
        yield
    except OSError as error:
        end(f"{setting}: cannot listen at port {port}: {error.strerror or error}", FAILED)


def end(text: str, code: int) -> NoReturn:
    """Say why, and exit with `code`."""
    say(text)
    raise typer.Exit(code)


def say(text: str) -> None:
    """Tell the person at the terminal, beside what the command prints."""
    for line in text.splitlines():
        print(f"obol: {line}", file=sys.stderr, flush=True)
