"""Logs: structure, level, and above all what is not in them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway import logs

SECRETS = {
    "a database's password": "cannot reach postgresql+asyncpg://obol:planted@db/obol",
    "a bearer token": "Authorization: Bearer planted.abcdefgh",
    "a Stripe key": "used sk_live" + "_planted0000",
    "a webhook secret": "got whsec_planted00",
    "a client secret": "pi_123_secret_planted",
    "the sandbox's key": "sandbox-key-planted",
    "a card number": "card 4242 4242 4242 4242 planted",
}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the logs of a test go; everything is as before afterwards."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    yield stream
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level
    structlog.contextvars.clear_contextvars()


def last(stream: io.StringIO) -> dict[str, Any]:
    """The last line, as the object that it is."""
    line: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return line


def test_a_line_is_one_json_object_with_what_the_call_is_about(lines: io.StringIO) -> None:
    """Event, level, time, and what the edge bound for the call."""
    structlog.contextvars.bind_contextvars(rpc="A/B", tenant="t1", correlation_id="c1")
    structlog.get_logger().info("claimed", payment_id="pay_1")
    line = last(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "claimed",
        "level": "info",
        "payment_id": "pay_1",
        "rpc": "A/B",
        "tenant": "t1",
        "correlation_id": "c1",
    }


def test_a_librarys_line_looks_the_same(lines: io.StringIO) -> None:
    """What libraries say through `logging` has the call's context and is redacted as well."""
    structlog.contextvars.bind_contextvars(tenant="t1")
    logging.getLogger("providers.x").warning("cannot reach %s", "https://u:planted@h")
    assert last(lines)["tenant"] == "t1"
    assert last(lines)["logger"] == "providers.x"
    assert "planted" not in lines.getvalue()


@pytest.mark.parametrize(
    "name",
    ["api_key", "password", "authorization", "client_secret", "webhook_secrets", "access_token", "Cookie", "cvc"],
)
def test_a_value_by_a_secrets_name_is_hidden(lines: io.StringIO, name: str) -> None:
    """Also inside tables and lists."""
    structlog.get_logger().info("x", **{name: "planted"}, nested={"deep": [{name: "planted"}]})
    assert "planted" not in lines.getvalue()
    assert last(lines)[name] == logs.HIDDEN


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_inside_a_text_is_hidden(lines: io.StringIO, text: str) -> None:
    """By its look, in an event, in a value and in a traceback."""
    try:
        raise RuntimeError(text)
    except RuntimeError:
        structlog.get_logger().exception(text, detail=text, error=RuntimeError(text))
    assert "planted" not in lines.getvalue().replace("4242 planted", "").replace(f"{logs.HIDDEN} planted", "")
    assert "4242" not in lines.getvalue()


@pytest.mark.parametrize("value", [b"planted", "planted", {"a": "planted"}])
@pytest.mark.parametrize("name", ["body", "request_body", "payload", "headers"])
def test_a_body_is_not_logged(lines: io.StringIO, name: str, value: object) -> None:
    """Only how long it is."""
    structlog.get_logger().info("x", **{name: value})
    assert "planted" not in lines.getvalue()
    assert last(lines)[name] == f"[{len(value)} long]"  # type: ignore[arg-type]  # each of them has a length


@pytest.mark.parametrize(
    "kept", ["pay_01a20045695172159dd10fba08a5c11a", "2026-11-21T22:41:18.692954Z", "idempotency_key"]
)
def test_what_is_no_secret_stays_readable(lines: io.StringIO, kept: str) -> None:
    """Ids, times and words that only look a little like one are not hidden."""
    structlog.get_logger().info("x", value=kept, idempotency_key=kept)
    assert (last(lines)["value"], last(lines)["idempotency_key"]) == (kept, kept)


def test_below_the_level_nothing_is_written(lines: io.StringIO) -> None:
    """Debug lines cost nothing at info."""
    structlog.get_logger().debug("x")
    logging.getLogger("y").debug("x")
    assert lines.getvalue() == ""


def test_a_text_without_end_is_cut(lines: io.StringIO) -> None:
    """No line grows with what a caller or a provider sent."""
    structlog.get_logger().info("x", detail="y " * 1_000_000)
    assert len(lines.getvalue()) < 3 * logs.TEXT_CHARACTERS_MAX
