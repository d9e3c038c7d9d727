"""What deploy/ says, read as those read it who run it: commands by the CLI, environments by the settings."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from gateway.cli import app
from gateway.config import CONFIG_FILE_ENV, Settings, load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ENVOYS = DEPLOY / "envoy"
EXAMPLES = {"gateway": DEPLOY / "examples" / "gateway.toml", "webhooks": DEPLOY / "examples" / "webhooks.toml"}

_SECONDS = {"s": 1, "m": 60, "h": 3_600}


@cache
def documents(path: Path) -> list[Any]:
    """Every YAML document of a file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def envoy(name: str) -> Any:
    """An Envoy configuration by its file's name, such as front.yaml."""
    (read,) = documents(ENVOYS / name)
    return read


def walk(value: Any) -> Iterator[Any]:
    """A value, and everything in it."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(each)


def listeners(read: Any) -> dict[int, str]:
    """The ports at which an Envoy listens, with the address of each; its administration too."""
    found = [*(each["address"] for each in read["static_resources"]["listeners"]), read["admin"]["address"]]
    return {each["socket_address"]["port_value"]: each["socket_address"]["address"] for each in found}


def upstreams(read: Any) -> dict[str, list[tuple[str, int]]]:
    """Where each cluster's endpoints are."""
    return {
        cluster["name"]: [
            (each["socket_address"]["address"], each["socket_address"]["port_value"])
            for each in (place["address"] for place in walk(cluster) if isinstance(place, dict) and "address" in place)
            if isinstance(each, dict)
        ]
        for cluster in read["static_resources"]["clusters"]
    }


def routes(read: Any) -> list[Any]:
    """Every route of every listener."""
    return [route for each in walk(read) if isinstance(each, dict) for route in each.get("routes", ())]


def seconds(told: str) -> float:
    """A duration such as 90s or 1m."""
    found = re.fullmatch(r"([\d.]+)([smh])", told)
    assert found, told
    return float(found[1]) * _SECONDS[found[2]]


def parsed(arguments: Sequence[str]) -> str:
    """The command that `obol` takes these arguments for. Raises click's UsageError where it does not take them."""
    name, *rest = arguments
    command: Any = typer.main.get_command(app)
    context = command.make_context("obol", list(arguments))
    found = command.get_command(context, name)
    assert found is not None, name
    found.make_context(name, rest, parent=context)
    return name


def settings(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a process with this environment. Raises ConfigError for a name that is none.

    The secret file that it names is the example of the same name.
    """
    given = dict(environment)
    with monkeypatch.context() as patched:
        for name in list(os.environ):
            if name.upper().startswith("OBOL_"):
                patched.delenv(name)
        kind = "webhooks" if "webhooks" in given.pop("KIND") else "gateway"
        assert given.pop(CONFIG_FILE_ENV)
        patched.setenv(CONFIG_FILE_ENV, str(EXAMPLES[kind]))
        for name, value in given.items():
            patched.setenv(name, value)
        return load_settings()
