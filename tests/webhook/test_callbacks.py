"""A callback's way through the sidecar: only what is authentic, only its raw bytes, and 200 only once it is kept."""

import asyncio
import uuid
from dataclasses import replace

import grpc
import pytest

from tests.webhook.sending import (
    ACCOUNT,
    NOW_S,
    PATH,
    SECOND_SECRET,
    SECRET,
    SIGNATURE,
    Headers,
    event,
    exchange,
    head,
    post,
    signature,
    signed,
)
from tests.webhook.serving import QUICK, Inbox, aborting, account, sidecar

JSON = ("Content-Type", "application/json")
BODY = event()
LIMIT = QUICK.body_bytes_max


def sealed(body: bytes) -> tuple[bytes, Headers]:
    """A body with its genuine signature."""
    return body, signed(body)


async def test_exactly_the_raw_bytes_are_forwarded() -> None:
    """The gateway gets the body byte for byte, who called, when, and the headers that were verified, no others."""
    body = (
        b'{ "object":"event",\t"id" : "evt_\\u0031",  "type":"a.b", "livemode":false,"account":"s","x":"\xc3\xa9"}\r\n '
    )
    headers = [*signed(body), ("Cookie", "c=1"), ("Authorization", "Bearer t"), ("X-Forwarded-For", "10.0.0.1")]
    async with sidecar() as up:
        answer = await post(up.port, body, headers)
        (request,) = up.inbox.delivered
        (metadata,) = up.inbox.metadata
    assert answer.status == 200
    assert request.body == body
    assert (request.provider, request.account_id) == ("sandbox", ACCOUNT)
    assert (request.event_id, request.event_type) == ("evt_1", "a.b")
    assert dict(request.headers) == {"sandbox-signature": signature(body)}
    assert request.receive_time.ToNanoseconds() == NOW_S * 1e9
    assert metadata["obol-actor"] == f"webhook:sandbox/{ACCOUNT}"
    assert uuid.UUID(metadata["obol-correlation-id"]).version == 4
    assert "obol-tenant" not in metadata


REFUSED: dict[str, tuple[int, bytes, Headers]] = {
    "not UTF-8": (400, *sealed(BODY.replace(b"evt", b"\xff\xfe"))),
    "100,000 levels deep": (400, *sealed(b'{"a":' * 20_000 + b"1" + b"}" * 20_000)),
    "100,000 arrays deep": (400, *sealed(b"[" * 100_000 + b"]" * 100_000)),
    "a key twice": (400, *sealed(BODY[:-1] + b', "id": "evt_2"}')),
    "NaN": (400, *sealed(BODY[:-1] + b', "x": NaN}')),
    "an infinite number": (400, *sealed(BODY[:-1] + b', "x": 1e999}')),
    "half of a surrogate pair": (400, *sealed(event(x="y").replace(b'"y"', b'"\\ud800"'))),
    "no JSON": (400, *sealed(b"hello")),
    "no body": (400, *sealed(b"")),
    "no object": (400, *sealed(b"[]")),
    "no event id": (400, *sealed(BODY.replace(b'"id": "evt_1", ', b""))),
    "an event id that is a number": (400, *sealed(BODY.replace(b'"evt_1"', b"7"))),
    "an empty event id": (400, *sealed(event(""))),
    "an event id beyond the contract": (400, *sealed(event("e" * 256))),
    "no signature": (401, BODY, [JSON]),
    "an empty signature": (401, BODY, [JSON, (SIGNATURE, "")]),
    "another secret": (401, BODY, signed(BODY, secret="whsec_wrong")),
    "an empty secret": (401, BODY, signed(BODY, secret="")),
    "another body": (401, event("evt_2"), signed(BODY)),
    "a stale signature": (401, BODY, signed(BODY, at_s=NOW_S - 301)),
    "a signature from the future": (401, BODY, signed(BODY, at_s=NOW_S + 301)),
    "a signature from the next year": (401, BODY, signed(BODY, at_s=NOW_S + 31_536_000)),
    "a signature in Latin-1": (401, BODY, [JSON, (SIGNATURE, b"t=1,v1=\xe9\xff")]),
    "a signature in Arabic digits": (401, BODY, [JSON, (SIGNATURE, f"t={NOW_S:.0f},v1=".encode() + "٣".encode() * 32)]),
    "two signature headers": (401, BODY, [*signed(BODY), (SIGNATURE, signature(BODY))]),
    "no content type": (415, BODY, [(SIGNATURE, signature(BODY))]),
    "a form": (415, BODY, [("Content-Type", "application/x-www-form-urlencoded"), (SIGNATURE, signature(BODY))]),
    "JSON in another charset": (415, BODY, [("Content-Type", "application/json; charset=utf-16"), signed(BODY)[1]]),
    "two content types": (415, BODY, [*signed(BODY), ("Content-Type", "text/plain")]),
    "gzip": (415, BODY, [*signed(BODY), ("Content-Encoding", "gzip")]),
    "identity and gzip": (415, BODY, [*signed(BODY), ("Content-Encoding", "identity, gzip")]),
    "gzip in a second header": (
        415,
        BODY,
        [*signed(BODY), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")],
    ),
    "one byte too many": (413, *sealed(event(x="y" * (LIMIT - len(event(x="")) + 1)))),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_malformed_or_not_authentic_goes_no_further(case: str) -> None:
    """It gets its status, and the gateway never hears of it."""
    status, body, headers = REFUSED[case]
    async with sidecar() as up:
        answer = await post(up.port, body, headers)
        assert up.inbox.delivered == []
    assert answer.status == status


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "application/json; charset=utf-8"), signed(BODY)[1]],
        [("Content-Type", 'Application/JSON;charset="UTF-8"'), signed(BODY)[1]],
        [*signed(BODY), ("Content-Encoding", "Identity")],
        signed(BODY, at_s=NOW_S - 300),
        signed(BODY, at_s=NOW_S + 300),
    ],
)
async def test_what_is_right_in_other_words_is_taken(headers: Headers) -> None:
    """The nearest neighbours of what is refused are not."""
    async with sidecar() as up:
        assert (await post(up.port, BODY, headers)).status == 200


async def test_the_largest_body_of_the_contract_is_taken() -> None:
    """256 KiB, announced or in chunks."""
    body = event(x="y" * (LIMIT - len(event(x=""))))
    assert len(body) == LIMIT
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    async with sidecar() as up:
        assert (await post(up.port, body, signed(body))).status == 200
        headers = [*signed(body), ("Transfer-Encoding", "chunked")]
        assert (await exchange(up.port, [head(PATH, headers), chunked])).status == 200
        assert [request.body for request in up.inbox.delivered] == [body, body]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        (f"/webhooks/sandbox/{ACCOUNT}x", "POST", 401),
        (f"/webhooks/nobody/{ACCOUNT}", "POST", 401),
        ("/webhooks/sandbox/%ff%00", "POST", 401),
        (f"/webhooks/sandbox/{ACCOUNT}/", "POST", 404),
        (f"/webhooks/sandbox/{ACCOUNT}/more", "POST", 404),
        ("/webhooks/sandbox", "POST", 404),
        ("/", "POST", 404),
        (PATH, "GET", 405),
        (PATH, "PUT", 405),
    ],
)
async def test_only_a_post_to_an_account_is_a_callback(path: str, method: str, status: int) -> None:
    """Another path, method, provider or account is refused, however well it is signed."""
    async with sidecar() as up:
        assert (await post(up.port, BODY, signed(BODY), path=path, method=method)).status == status
        assert up.inbox.delivered == []


async def test_nothing_can_be_learned_from_a_401() -> None:
    """An unknown account, a wrong, stale or missing signature and a missing secret get one answer, byte for byte."""
    attempts: list[tuple[str, Headers]] = [
        (PATH, [JSON]),
        (PATH, signed(BODY, secret="whsec_wrong")),
        (PATH, signed(BODY, at_s=NOW_S - 1_000)),
        (PATH, signed(BODY, at_s=NOW_S + 1_000)),
        ("/webhooks/sandbox/acct_bare", signed(BODY)),
        ("/webhooks/sandbox/acct_nobody", signed(BODY)),
        ("/webhooks/nobody/acct_shop", signed(BODY)),
    ]
    async with sidecar(account(ACCOUNT, SECRET), account("acct_bare")) as up:
        answers = [await post(up.port, BODY, headers, path=path) for path, headers in attempts]
    for answer in answers:
        answer.headers.pop("date")
    assert answers[0].status == 401
    assert all(answer == answers[0] for answer in answers)


async def test_accounts_do_not_speak_for_one_another() -> None:
    """A callback that is signed with another account's secret is not authentic."""
    async with sidecar(account(ACCOUNT, SECRET), account("acct_other", SECOND_SECRET)) as up:
        path = "/webhooks/sandbox/acct_other"
        assert (await post(up.port, BODY, signed(BODY), path=path)).status == 401
        assert (await post(up.port, BODY, signed(BODY, secret=SECOND_SECRET), path=path)).status == 200


async def test_both_secrets_are_good_while_one_is_replaced() -> None:
    """Either of two secrets verifies, and no third one."""
    async with sidecar(account(ACCOUNT, SECRET, SECOND_SECRET)) as up:
        statuses = [
            (await post(up.port, BODY, signed(BODY, secret=secret))).status
            for secret in (SECRET, SECOND_SECRET, "whsec_third")
        ]
    assert statuses == [200, 200, 401]


@pytest.mark.parametrize("secrets", [(), ("",)])
async def test_without_a_secret_nothing_is_authentic(secrets: tuple[str, ...]) -> None:
    """An account without a signing secret refuses everything, also what is signed with the empty one."""
    async with sidecar(account(ACCOUNT, *secrets)) as up:
        for headers in (signed(BODY), signed(BODY, secret=""), [JSON]):
            assert (await post(up.port, BODY, headers)).status == 401
        assert up.inbox.delivered == []


async def test_200_comes_only_after_the_gateway_has_committed() -> None:
    """While DeliverCallback runs there is no answer; when it returns there is."""
    committed = asyncio.Event()

    async def wait(context: object) -> None:
        await committed.wait()

    async with sidecar(inbox=Inbox(after=wait)) as up:
        answering = asyncio.create_task(post(up.port, BODY, signed(BODY)))
        await up.inbox.arrivals.acquire()
        # Long enough for an answer that did not wait.
        await asyncio.sleep(0.3)
        assert up.inbox.kept != {}
        assert not answering.done()
        committed.set()
        assert (await answering).status == 200


ERRORS = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", ERRORS)
async def test_no_error_of_the_gateways_becomes_a_2xx(code: grpc.StatusCode) -> None:
    """Unknown account 401, unacceptable event 400, and everything else 503 with a time to come back."""
    expected = {grpc.StatusCode.NOT_FOUND: 401, grpc.StatusCode.INVALID_ARGUMENT: 400}.get(code, 503)
    async with sidecar(inbox=Inbox(before=aborting(code))) as up:
        answer = await post(up.port, BODY, signed(BODY))
    assert answer.status == expected
    assert ("retry-after" in answer.headers) is (expected == 503)


async def test_a_gateway_that_is_not_there_is_a_503() -> None:
    """The provider is told to come back, and when."""
    async with sidecar(gateway_is_up=False) as up:
        answer = await post(up.port, BODY, signed(BODY))
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_a_gateway_that_does_not_answer_is_a_503_in_time() -> None:
    """The deadline ends the wait."""

    async def stall(context: object) -> None:
        await asyncio.sleep(120)

    async with sidecar(inbox=Inbox(before=stall), limits=replace(QUICK, deliver_s_max=0.5)) as up:
        async with asyncio.timeout(60):
            assert (await post(up.port, BODY, signed(BODY))).status == 503


async def test_a_commit_whose_answer_was_lost_is_a_503_and_then_a_200() -> None:
    """Nobody knows whether it was kept: the provider sends it again, and the duplicate is as good as the first."""
    inbox = Inbox(after=aborting(grpc.StatusCode.INTERNAL))
    async with sidecar(inbox=inbox) as up:
        assert (await post(up.port, BODY, signed(BODY))).status == 503
        assert len(inbox.kept) == 1
        inbox.after = None
        assert (await post(up.port, BODY, signed(BODY))).status == 200
    assert len(inbox.kept) == 1


async def test_a_verifier_that_breaks_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no verifier may raise is a 503, without its text, and never an acceptance."""

    class Broken:
        async def verify(self, body: bytes, headers: object, *, now_s: float) -> None:
            raise RuntimeError(f"cannot read {body!r}")

        async def close(self) -> None: ...

    monkeypatch.setattr("webhook_http.verification.build_verifier", lambda settings: Broken())
    async with sidecar() as up:
        answer = await post(up.port, BODY, signed(BODY))
        assert up.inbox.delivered == []
        assert "evt_1" not in str(up.lines)
    assert answer.status == 503


async def test_a_certificate_that_does_not_come_is_a_503_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier is given `verify_s_max` and no more."""

    class Slow:
        async def verify(self, body: bytes, headers: object, *, now_s: float) -> None:
            await asyncio.sleep(120)

        async def close(self) -> None: ...

    monkeypatch.setattr("webhook_http.verification.build_verifier", lambda settings: Slow())
    async with sidecar(limits=replace(QUICK, verify_s_max=0.2)) as up, asyncio.timeout(60):
        assert (await post(up.port, BODY, signed(BODY))).status == 503
