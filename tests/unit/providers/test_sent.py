"""The table of transport errors: complete over aiohttp's tree, and never more certain than the guard."""

import asyncio
import builtins
from collections.abc import Iterator
from unittest.mock import Mock

import aiohttp
import pytest

from gateway.domain.errors import Sent
from providers.sent import SENT_BY_ERROR, SendGuard, SendTooLate, SentBefore, was_sent


def tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    """A class and all below it, as far as aiohttp or Python define them."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


AIOHTTP_ERRORS = sorted(
    {kind for kind in tree(aiohttp.ClientError) if kind.__module__.startswith("aiohttp.")},
    key=lambda kind: kind.__name__,
)
OS_ERRORS = sorted(
    {kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, OSError)},
    key=lambda kind: kind.__name__,
)

BEFORE_SENDING = {
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientConnectorCertificateError",
    "ClientConnectorSSLError",
    "ClientSSLError",
    "ClientProxyConnectionError",
    "UnixClientConnectorError",
    "ConnectionTimeoutError",
    "ServerFingerprintMismatch",
    "InvalidURL",
    "InvalidUrlClientError",
    "NonHttpUrlClientError",
}


def made(kind: type[BaseException]) -> Exception:
    """An instance, whatever its constructor wants."""
    error = kind.__new__(kind)
    assert isinstance(error, Exception)
    return error


def guard(*, begun: bool = False) -> SendGuard:
    """A guard that has, or has not, let something out."""
    standing = SendGuard(send_before=10.0, now=lambda: 1.0, has_body=True)
    if begun:
        standing.before_head()
        standing.before_body()
    return standing


@pytest.mark.parametrize("kind", AIOHTTP_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_is_in_the_table(kind: type[BaseException]) -> None:
    """A new error of aiohttp fails here until somebody has decided what it proves."""
    assert kind in SENT_BY_ERROR


@pytest.mark.parametrize("kind", AIOHTTP_ERRORS, ids=lambda kind: kind.__name__)
def test_only_errors_from_before_sending_prove_it(kind: type[BaseException]) -> None:
    """The errors that prove NotSent are named here a second time; every other one proves nothing."""
    expected = Sent.NO if kind.__name__ in BEFORE_SENDING else Sent.MAYBE
    assert was_sent(made(kind), guard()) is expected


@pytest.mark.parametrize("kind", OS_ERRORS, ids=lambda kind: kind.__name__)
def test_a_bare_os_error_proves_nothing(kind: type[BaseException]) -> None:
    """An OSError that aiohttp did not place before the connection may come from after it; our own timeout excepted."""
    assert was_sent(made(kind), guard()) is (Sent.NO if kind is TimeoutError else Sent.MAYBE)


@pytest.mark.parametrize(
    "kind",
    [*AIOHTTP_ERRORS, *OS_ERRORS, asyncio.TimeoutError, SendTooLate, SentBefore, ValueError],
    ids=lambda kind: kind.__name__,
)
def test_no_error_outweighs_a_byte_that_went_out(kind: type[BaseException]) -> None:
    """Once the guard has let anything out, every error is MAYBE."""
    assert was_sent(made(kind), guard(begun=True)) is Sent.MAYBE


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, AttributeError, MemoryError, SentBefore])
def test_an_error_that_is_not_in_the_table_proves_nothing(kind: type[BaseException]) -> None:
    """What nobody has thought about is MAYBE."""
    assert was_sent(made(kind), guard()) is Sent.MAYBE


def test_the_guard_lets_one_write_out() -> None:
    """A second head, on another connection, is refused once a byte has gone out."""
    standing = guard(begun=True)
    with pytest.raises(SentBefore):
        standing.before_head()
    standing.before_body()


def test_the_guard_closes_at_the_last_moment() -> None:
    """At send_before itself it is too late, for the head and for the body."""
    now = Mock(return_value=1.0)
    standing = SendGuard(send_before=10.0, now=now, has_body=True)
    standing.before_head()
    now.return_value = 10.0
    with pytest.raises(SendTooLate):
        standing.before_body()
    assert not standing.begun


def test_a_request_without_a_body_begins_with_its_head() -> None:
    """Without a body the head is the request."""
    standing = SendGuard(send_before=10.0, now=lambda: 1.0, has_body=False)
    standing.before_head()
    assert standing.begun
