"""PayPal's callbacks: a genuine delivery verifies, and neither a hostile URL nor a forged body gets anywhere."""

import asyncio
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from providers.callbacks import BODY_BYTES_MAX, CallbackRejected, CallbackSettings, Rejection
from providers.paypal.callbacks import REDELIVERED_S_MAX, PayPalCallbackVerifier, build_verifier
from providers.paypal.certificates import (
    DOCUMENT_BYTES_MAX,
    FETCHES_PER_MINUTE_MAX,
    KEPT_MAX,
    NAMES,
    Certificates,
    Unfetched,
    load_roots,
)
from providers.paypal.events import interpret
from providers.secret import Secret
from simulators.paypal.certificates import Chain, made_chain, make_chain
from simulators.paypal.events import signed_headers
from tests.unit.providers.misbehaving import answer, answering, misbehaving

ROOT = Path(__file__).resolve().parents[3]
DELIVERY = ROOT.parent / "shared" / "third_party" / "paypal_webhook"
NOW_S = 1_800_000_000.0
WEBHOOK_ID = "4JH86294D6297924G"
CERT_URL = "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1"
BODY = json.dumps(
    {
        "id": "WH-1",
        "event_type": "CHECKOUT.ORDER.APPROVED",
        "create_time": "2027-01-15T08:00:00Z",
        "resource": {"id": "5O190127TN364715T", "purchase_units": [{"custom_id": "pay_9.op_9.cmd_9"}]},
    }
).encode()


class Served:
    """Certificates by path, and how often each was asked for."""

    def __init__(self, document: bytes, pause_s: float = 0.0) -> None:
        self.document = document
        self.asked: list[str] = []
        self._pause_s = pause_s

    async def __call__(self, origin: str, path: str) -> bytes:
        self.asked.append(origin + path)
        await asyncio.sleep(self._pause_s)
        return self.document


def verifier(served: Served, chain: Chain | None = None, *webhook_ids: str) -> PayPalCallbackVerifier:
    """A verifier that trusts the chain's root and gets certificates from `served`."""
    roots = x509.load_pem_x509_certificates((chain or made_chain()).root)
    settings = CallbackSettings("paypal", "acc-1", tuple(Secret(each) for each in webhook_ids or (WEBHOOK_ID,)))
    return PayPalCallbackVerifier(settings, Certificates(roots, fetch=served))


def signed(body: bytes = BODY, chain: Chain | None = None, **changed: str) -> dict[str, str]:
    """The headers of a delivery, with some changed."""
    headers = dict(signed_headers(chain or made_chain(), WEBHOOK_ID, NOW_S, body, CERT_URL))
    return {**headers, **{f"PayPal-{name.replace('_', '-').title()}": value for name, value in changed.items()}}


async def rejected(subject: PayPalCallbackVerifier, body: bytes, headers: Mapping[str, str]) -> Rejection:
    """Why the delivery is not passed on."""
    with pytest.raises(CallbackRejected) as refused:
        await subject.verify(body, headers, now_s=NOW_S)
    return refused.value.reason


async def test_the_genuine_delivery_verifies() -> None:
    """One that PayPal's sandbox made in 2015, by its own certificate and the bundled roots, at a clock of then."""
    if not DELIVERY.exists():
        pytest.skip("the genuine delivery is not at ../shared/third_party/paypal_webhook")
    told = json.loads((DELIVERY / "delivery.json").read_text())
    chain = (DELIVERY / told["cert_file"]).read_bytes() + (
        DELIVERY / "DigiCertSHA2ExtendedValidationServerCA.pem"
    ).read_bytes()
    settings = CallbackSettings("paypal", "acc-1", (Secret(told["webhook_id"]),))
    served = Served(chain)
    subject = PayPalCallbackVerifier(settings, Certificates(load_roots(), fetch=served))
    headers = {
        "PAYPAL-TRANSMISSION-ID": told["transmission_id"],
        "PAYPAL-TRANSMISSION-TIME": told["transmission_time"],
        "PAYPAL-TRANSMISSION-SIG": told["transmission_sig"],
        "PAYPAL-AUTH-ALGO": told["auth_algo"],
        "PAYPAL-CERT-URL": told["cert_url"],
    }
    then_s = datetime(2015, 5, 18, 15, 46, tzinfo=UTC).timestamp()
    body = told["body"].encode()
    event = await subject.verify(body, headers, now_s=then_s)
    assert (event.event_type, event.livemode) == ("PAYMENT.SALE.COMPLETED", False)
    assert served.asked == [told["cert_url"]]
    hint = interpret(body)
    assert (hint.known_type, hint.provider_payment_id) == (True, None)
    with pytest.raises(CallbackRejected):
        await subject.verify(body.replace(b"20.00", b"20.01"), headers, now_s=then_s)
    with pytest.raises(CallbackRejected) as late:
        # The delivery is old by then, and so is its certificate.
        await subject.verify(body, headers, now_s=datetime(2018, 1, 1, tzinfo=UTC).timestamp())
    assert late.value.reason is Rejection.STALE


async def test_a_delivery_for_another_webhook_is_forged() -> None:
    """The webhook id is what ties a delivery to us: PayPal's own signature for somebody else is none for us."""
    served = Served(made_chain().document)
    assert await rejected(verifier(served, None, "SOMEBODYELSES"), BODY, signed()) is Rejection.FORGED
    assert (await verifier(served, None, "SOMEBODYELSES", WEBHOOK_ID).verify(BODY, signed(), now_s=NOW_S)).event_id


@pytest.mark.parametrize(
    "url",
    [
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/https://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "https://user:secret@api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:443/v1/notifications/certs/CERT-1",
        "https://API.PAYPAL.COM/v1/notifications/certs/CERT-1",
        "https://127.0.0.1/v1/notifications/certs/CERT-1",
        "https://[::1]/v1/notifications/certs/CERT-1",
        "https://169.254.169.254/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/../../oauth2/token",
        "https://api.paypal.com/v1/notifications/certs/%2e%2e/x",
        "https://api.paypal.com/v1/notifications/certs/CERT-1?next=https://evil.example",
        "https://api.paypal.com/v1/notifications/certs/CERT-1#x",
        "https://api.paypal.com/v1/notifications/certs/",
        "https://api.paypal.com\\@evil.example/v1/notifications/certs/CERT-1",
        "https://\u0430pi.paypal.com/v1/notifications/certs/CERT-1",
        "file:///etc/passwd",
        "https://api.paypal.com/v1/notifications/certs/" + "C" * 101,
        "https://api.paypal.com/v1/notifications/certs/CERT-1\n",
        "",
    ],
)
async def test_a_hostile_certificate_url_is_never_fetched(url: str) -> None:
    """Not the host, not the port, not the path, not a look-alike: FORGED, and nothing goes out."""
    served = Served(made_chain().document)
    assert await rejected(verifier(served), BODY, signed(cert_url=url)) is Rejection.FORGED
    assert served.asked == []


@pytest.mark.parametrize(
    "changed",
    [
        {"auth_algo": "SHA1withRSA"},
        {"auth_algo": "SHA256withECDSA"},
        {"transmission_sig": "AAAA"},
        {"transmission_sig": "not base64!"},
        {"transmission_sig": "A" * 2_000},
        {"transmission_id": "another-id"},
        {"transmission_id": "a|b"},
        {"transmission_time": "yesterday"},
        {"transmission_time": "2027-01-15T08:00:01Z, 2027-01-15T08:00:00Z"},
    ],
)
async def test_a_changed_header_is_forged(changed: dict[str, str]) -> None:
    """Every header is bound, and none is read kindly."""
    assert (
        await rejected(verifier(Served(made_chain().document)), BODY, signed(BODY, None, **changed)) is Rejection.FORGED
    )


async def test_a_missing_or_doubled_header_is_refused() -> None:
    """Unsigned without one of them; forged with one in two spellings."""
    subject = verifier(Served(made_chain().document))
    for name in [each for each in signed() if each.startswith("PayPal-")]:
        without = {key: value for key, value in signed().items() if key != name}
        assert await rejected(subject, BODY, without) is Rejection.UNSIGNED
    assert await rejected(subject, BODY, {**signed(), "PAYPAL-CERT-URL": CERT_URL}) is Rejection.FORGED


async def test_an_old_delivery_is_good_for_as_long_as_paypal_tries() -> None:
    """Three days; what is older, or from the future, is refused before any certificate is fetched."""
    served = Served(made_chain().document)
    subject, headers = verifier(served), signed()
    assert (await subject.verify(BODY, headers, now_s=NOW_S + REDELIVERED_S_MAX - 1)).event_id == "WH-1"
    for now_s, reason in ((NOW_S + REDELIVERED_S_MAX + 1, Rejection.STALE), (NOW_S - 301, Rejection.FUTURE)):
        fresh = Served(made_chain().document)
        with pytest.raises(CallbackRejected) as refused:
            await verifier(fresh).verify(BODY, headers, now_s=now_s)
        assert (refused.value.reason, fresh.asked) == (reason, [])


@pytest.mark.parametrize(
    "chain",
    [
        lambda: make_chain("messageverificationcerts.paypal.com"),
        lambda: make_chain("evil.example"),
        lambda: make_chain(valid_until=datetime(2026, 1, 1, tzinfo=UTC)),
        lambda: make_chain(valid_from=datetime(2030, 1, 1, tzinfo=UTC)),
    ],
    ids=["the live name at the sandbox", "another name", "expired", "not valid yet"],
)
async def test_a_certificate_that_is_not_paypals_now_is_refused(chain: Callable[[], Chain]) -> None:
    """Made out to another name, or outside its time by the caller's clock."""
    made = chain()
    assert await rejected(verifier(Served(made.document), made), BODY, signed(chain=made)) is Rejection.FORGED


async def test_a_certificate_of_another_root_is_refused() -> None:
    """A stranger's chain with the right name, a leaf alone, and what is no certificate."""
    stranger = make_chain()
    leaf = made_chain().document.partition(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
    many = made_chain().document * 5
    for document in (
        stranger.document,
        leaf,
        many,
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ):
        subject = verifier(Served(document))
        assert await rejected(subject, BODY, signed(chain=stranger)) is Rejection.FORGED
    assert await rejected(verifier(Served(b"x" * (DOCUMENT_BYTES_MAX + 1))), BODY, signed()) is Rejection.FORGED


async def test_a_certificate_is_fetched_once_for_all_who_need_it() -> None:
    """Twenty deliveries at a time make one fetch, and later ones none; a fetch that one gives up serves the others."""
    served = Served(made_chain().document, pause_s=0.05)
    subject = verifier(served)
    tasks = [asyncio.ensure_future(subject.verify(BODY, signed(), now_s=NOW_S)) for _ in range(20)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    events = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(events[0], asyncio.CancelledError)
    assert not [each for each in events[1:] if isinstance(each, BaseException)]
    await subject.verify(BODY, signed(), now_s=NOW_S)
    assert len(served.asked) == 1
    await subject.close()


async def test_strangers_cannot_make_us_fetch_without_end() -> None:
    """So many new URLs a minute; what does not verify is not kept, and the cache is bounded."""
    served = Served(b"no certificate")
    subject = verifier(served)
    for number in range(FETCHES_PER_MINUTE_MAX):
        assert await rejected(subject, BODY, signed(cert_url=f"{CERT_URL}{number}")) is Rejection.FORGED
    with pytest.raises(Unfetched):
        await subject.verify(BODY, signed(cert_url=f"{CERT_URL}-more"), now_s=NOW_S)
    assert len(served.asked) == FETCHES_PER_MINUTE_MAX
    good = Served(made_chain().document)
    certificates = Certificates(x509.load_pem_x509_certificates(made_chain().root), fetch=good)
    for number in range(KEPT_MAX + 5):
        await certificates.signer(f"{CERT_URL}{number}", now_s=NOW_S)
    assert len(certificates._documents) == KEPT_MAX


async def test_a_certificate_that_does_not_come_is_no_verdict() -> None:
    """A redirect, an error, a dead address: Unfetched, so that PayPal has to deliver again."""
    redirect = answer(b"", 302, "Location: http://127.0.0.1:1/v1/notifications/certs/CERT-1")
    for behaviour in (answering(redirect), answering(answer(b"gone", 404))):
        async with misbehaving(behaviour) as server:
            settings = CallbackSettings(
                "paypal", "acc-1", (Secret(WEBHOOK_ID),), options={"certificate_origin": server.base_url}
            )
            subject = build_verifier(settings)
            url = f"{server.base_url}/v1/notifications/certs/CERT-1"
            with pytest.raises(Unfetched):
                await subject.verify(BODY, signed(cert_url=url), now_s=NOW_S)
            assert server.requests == 1
            await subject.close()


@pytest.mark.parametrize("origin", ["https://evil.example", "http://evil.example", "http://127.0.0.1:1/x", "x"])
def test_only_loopback_may_stand_in_for_paypal(origin: str) -> None:
    """The option for imitations opens no door."""
    with pytest.raises(ValueError, match="loopback"):
        build_verifier(CallbackSettings("paypal", "a", (Secret("w"),), options={"certificate_origin": origin}))


async def test_a_forged_body_under_captured_headers_names_an_object_and_nothing_else() -> None:
    """Only a CRC32 binds the body, so any contents verify: what is taken from them is which object to fetch."""
    wanted = zlib.crc32(BODY)
    forged = with_crc(
        {
            "id": "WH-1",
            "event_type": "PAYMENT.CAPTURE.COMPLETED",
            "create_time": "2031-01-01T00:00:00Z",
            "resource": {
                "id": "3C679366HH908993F",
                "amount": {"currency_code": "USD", "value": "9999.00"},
                "custom_id": "pay_9.op_9.cmd_9",
                "supplementary_data": {"related_ids": {"order_id": "OURORDER123456789"}},
            },
        },
        wanted,
    )
    assert forged != BODY
    assert zlib.crc32(forged) == wanted
    event = await verifier(Served(made_chain().document)).verify(forged, signed(), now_s=NOW_S)
    assert event.event_type == "PAYMENT.CAPTURE.COMPLETED"
    hint = interpret(forged)
    assert (hint.provider_payment_id, hint.payment_id, hint.tenant_id) == ("OURORDER123456789", "", "")
    assert hint.provider_time_us is None


async def test_an_oversized_body_is_refused_unread() -> None:
    """Before its certificate is asked for."""
    served = Served(made_chain().document)
    body = b" " * (BODY_BYTES_MAX + 1)
    assert await rejected(verifier(served), body, signed(body)) is Rejection.UNREADABLE
    assert served.asked == []


def test_the_bundled_roots_are_authorities_that_are_valid_for_years() -> None:
    """Each is its own issuer and an authority; all hosts have a name."""
    roots = load_roots()
    assert len(roots) == 4
    for root in roots:
        assert root.issuer == root.subject
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert root.not_valid_after_utc > datetime(2031, 1, 1, tzinfo=UTC)
    assert set(NAMES.values()) == {
        "messageverificationcerts.paypal.com",
        "messageverificationcerts.sandbox.paypal.com",
    }


def test_the_sidecar_loads_no_http_client_for_it() -> None:
    """Building the verifier imports neither an HTTP client nor the adapter."""
    code = (
        "import sys; from providers.callbacks import CallbackSettings, build_verifier; "
        "from providers.secret import Secret; "
        "build_verifier(CallbackSettings('paypal', 'a', (Secret('w'),))); "
        "foreign = {'aiohttp', 'providers.http', 'providers.registry', 'providers.paypal.adapter', 'simulators'}; "
        "assert not foreign & set(sys.modules), foreign & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def with_crc(event: dict[str, Any], wanted: int) -> bytes:
    """The event with a padding of letters that gives its JSON the wanted CRC32.

    A CRC is affine: each of 64 letters is "a" or "b", and which ones are "b" is a system of equations over bits.
    """
    base = bytearray(json.dumps({"padding": "a" * 64, **event}).encode())
    start = base.index(b"a" * 64)
    plain = zlib.crc32(base)
    rows: list[tuple[int, int]] = []
    for place in range(64):
        changed = bytearray(base)
        changed[start + place] = ord("b")
        difference, choice = zlib.crc32(changed) ^ plain, 1 << place
        for pivot, chosen in rows:
            if difference ^ pivot < difference:
                difference, choice = difference ^ pivot, choice ^ chosen
        if difference:
            rows.append((difference, choice))
            rows.sort(reverse=True)
    left, chosen_all = wanted ^ plain, 0
    for pivot, chosen in rows:
        if left ^ pivot < left:
            left, chosen_all = left ^ pivot, chosen_all ^ chosen
    assert left == 0
    for place in range(64):
        if chosen_all >> place & 1:
            base[start + place] = ord("b")
    return bytes(base)


async def test_roots_that_come_to_be_later_are_read_when_they_are_needed(tmp_path: Path) -> None:
    """An imitation writes its root when it starts, maybe after the sidecar: until then it has to deliver again."""
    served, path = Served(made_chain().document), tmp_path / "root.pem"
    settings = CallbackSettings("paypal", "acc-1", (Secret(WEBHOOK_ID),))
    subject = PayPalCallbackVerifier(settings, Certificates(path, fetch=served))
    with pytest.raises(Unfetched):
        await subject.verify(BODY, signed(), now_s=NOW_S)
    path.write_bytes(made_chain().root)
    assert (await subject.verify(BODY, signed(), now_s=NOW_S)).event_id == "WH-1"
