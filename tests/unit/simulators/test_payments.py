"""The API's verbs and reads: what they do, and what they refuse."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from simulators.sandbox import changes
from simulators.sandbox.settings import Bounds, Terms
from tests.unit.simulators.rig import Caller, Clock, Opened, until


async def test_a_capture_takes_part_and_releases_the_rest(caller: Caller) -> None:
    """A final capture of less closes the authorization; what was released cannot be captured."""
    held = await caller.authorized(amount=1000)
    taken = (
        await caller.post(f"/v1/payments/{held}/capture", {"amount": 600, "metadata": {"obol_operation": "op_c"}})
    ).body
    assert (taken["status"], taken["authorization"]["status"]) == ("captured", "released")
    assert taken["captures"][0]["metadata"] == {"obol_operation": "op_c"}
    again = await caller.post(f"/v1/payments/{held}/capture", {"amount": 1})
    assert (again.status, again.code) == (400, "payment_not_capturable")


async def test_a_trusting_provider_gives_back_more_than_it_took(opened: Opened) -> None:
    """It compares no refund with what is left, as some do: whoever asks for 60 of 100 twice gets 120."""
    async with opened(terms=Terms(trusting=True)) as caller:
        paid = (await caller.pay(amount=1000)).body["id"]
        for _ in range(2):
            assert (await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 600})).status == 200
        assert (await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 1001})).code == "refund_exceeds_captured"


async def test_a_capture_that_is_not_final_leaves_the_rest_open(caller: Caller) -> None:
    """The rest stays capturable, and the last capture closes the authorization."""
    held = await caller.authorized(amount=1000)
    part = (await caller.post(f"/v1/payments/{held}/capture", {"amount": 400, "final": False})).body
    assert (part["status"], part["authorization"]["amount_capturable"]) == ("partially_captured", 600)
    rest = (await caller.post(f"/v1/payments/{held}/capture")).body
    assert (rest["status"], [each["amount"] for each in rest["captures"]]) == ("captured", [400, 600])


async def test_more_than_authorized_is_never_captured(caller: Caller) -> None:
    """One minor unit too much is refused, also after a part was taken, and no money moves."""
    held = await caller.authorized(amount=1000)
    assert (await caller.post(f"/v1/payments/{held}/capture", {"amount": 1001})).code == "amount_too_large"
    await caller.post(f"/v1/payments/{held}/capture", {"amount": 400, "final": False})
    assert (await caller.post(f"/v1/payments/{held}/capture", {"amount": 601})).code == "amount_too_large"
    assert [each["kind"] for each in await caller.effects()] == ["authorization", "capture"]


async def test_more_than_captured_is_never_refunded(caller: Caller) -> None:
    """Two refunds of 60 on 100: the second is refused; the rest is refundable, and then nothing is."""
    paid = (await caller.pay(amount=10_000)).body["id"]
    refunds = f"/v1/payments/{paid}/refunds"
    assert (await caller.post(refunds, {"amount": 6_000})).status == 200
    assert (await caller.post(refunds, {"amount": 6_000})).code == "refund_exceeds_captured"
    rest = (await caller.post(refunds, {"reason": "rest", "metadata": {"obol_operation": "op_r"}})).body["refunds"][1]
    assert (rest["amount"], rest["status"], rest["metadata"]) == (4_000, "succeeded", {"obol_operation": "op_r"})
    assert (await caller.post(refunds)).code == "refund_exceeds_captured"
    assert sum(each["amount"] for each in await caller.effects() if each["kind"] == "refund") == 10_000


async def test_a_pending_refund_and_an_open_dispute_hold_their_amount(caller: Caller) -> None:
    """What is on its way back, or disputed, cannot be refunded a second time; what failed or was won can."""
    paid = (await caller.pay("card_refund_pending", amount=100)).body["id"]
    pending = (await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 60})).body["refunds"][0]["id"]
    dispute = (await caller.control(f"/payments/{paid}/dispute", {"amount": 40})).body["disputes"][0]["id"]
    assert (await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 1})).code == "refund_exceeds_captured"
    await caller.control(f"/refunds/{pending}", {"status": "failed"})
    await caller.control(f"/disputes/{dispute}", {"status": "won"})
    assert (await caller.post(f"/v1/payments/{paid}/refunds")).body["refunds"][1]["amount"] == 100


async def test_a_cancel_voids_what_is_left_and_keeps_what_was_taken(caller: Caller) -> None:
    """Cancelling an authorization voids it; cancelling a rest keeps the capture; a closed payment is refused."""
    held = await caller.authorized(amount=1000)
    gone = (await caller.post(f"/v1/payments/{held}/cancel", {"reason": "stock"})).body
    assert (gone["status"], gone["cancellation_reason"], gone["authorization"]["status"]) == (
        "cancelled",
        "stock",
        "released",
    )
    assert (await caller.post(f"/v1/payments/{held}/cancel")).code == "payment_not_cancellable"
    assert (await caller.post(f"/v1/payments/{held}/confirm")).code == "payment_not_confirmable"
    part = await caller.authorized(amount=1000)
    await caller.post(f"/v1/payments/{part}/capture", {"amount": 400, "final": False})
    assert (await caller.post(f"/v1/payments/{part}/cancel")).body["status"] == "captured"
    assert [each["amount"] for each in await caller.effects() if each["kind"] == "void"] == [1000, 600]


async def test_an_authorization_expires_by_the_clock(opened: Opened, clock: Clock, caller: Caller) -> None:
    """When its time has come the provider voids what was left, on its own account."""
    held = await caller.authorized()
    clock.now += 7 * 86_400
    await until(lambda: _is(caller, held, "expired"))
    void = (await caller.effects())[-1]
    assert (void["kind"], void["origin"], void["operation"]) == ("void", "provider", None)


@pytest.mark.parametrize(
    ("step", "body", "kind", "origin"),
    [
        ("dispute", {"amount": 500}, "dispute", "provider"),
        ("dispute", {"status": "inquiry"}, None, None),
        ("refund", {"amount": 500}, "refund", "dashboard"),
        ("reverse-capture", {}, "reversal", "provider"),
    ],
)
async def test_the_provider_acts_by_itself(
    caller: Caller, step: str, body: dict[str, object], kind: str | None, origin: str | None
) -> None:
    """A control moves money with an origin of its own and no operation of ours; an inquiry moves none."""
    paid = (await caller.pay(metadata={"obol_operation": "op_1"})).body["id"]
    assert (await caller.control(f"/payments/{paid}/{step}", body)).status == 200
    added = [(each["kind"], each["origin"], each["operation"]) for each in (await caller.effects())[1:]]
    assert added == ([] if kind is None else [(kind, origin, None)])


@pytest.mark.parametrize("capture", ["automatic", "manual"])
async def test_a_reversed_capture_leaves_the_payment_open_for_another_method(caller: Caller, capture: str) -> None:
    """Money that the bank took back closes the authorization; the payment can be paid in another way."""
    paid = (await caller.pay(capture=capture)).body["id"]
    if capture == "manual":
        await caller.post(f"/v1/payments/{paid}/capture")
    taken_back = (await caller.control(f"/payments/{paid}/reverse-capture")).body
    assert (taken_back["status"], taken_back["captures"][0]["status"]) == ("requires_payment_method", "reversed")
    assert (taken_back["authorization"] or {"status": "released"})["status"] == "released"
    again = (await caller.post(f"/v1/payments/{paid}/confirm", {"payment_method": "card_ok"})).body
    assert (again["status"], again["attempt"]) == ("captured" if capture == "automatic" else "authorized", 2)


async def test_a_reversed_part_leaves_the_rest_capturable(caller: Caller) -> None:
    """While the authorization is open, a reversal takes the payment back to authorized."""
    held = await caller.authorized(amount=1000)
    await caller.post(f"/v1/payments/{held}/capture", {"amount": 400, "final": False})
    taken_back = (await caller.control(f"/payments/{held}/reverse-capture")).body
    assert (taken_back["status"], taken_back["authorization"]["amount_capturable"]) == ("authorized", 600)


async def test_a_payment_has_a_bounded_history(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its bound a payment takes no more refunds, and says so."""
    monkeypatch.setattr(changes, "MOVEMENTS_MAX", 2)
    paid = (await caller.pay()).body["id"]
    codes = [(await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 1})).status for _ in range(2)]
    refused = await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 1})
    assert (codes, refused.code) == ([200, 200], "too_many_refunds")


async def test_a_dispute_takes_legal_steps_only(caller: Caller) -> None:
    """Inquiry, open, lost; what has ended does not move again."""
    paid = (await caller.pay()).body["id"]
    dispute = (await caller.control(f"/payments/{paid}/dispute", {"status": "inquiry"})).body["disputes"][0]["id"]
    for status in ("open", "lost"):
        assert (await caller.control(f"/disputes/{dispute}", {"status": status})).body["disputes"][0][
            "status"
        ] == status
    assert (await caller.control(f"/disputes/{dispute}", {"status": "won"})).code == "dispute_step_refused"
    assert [each["kind"] for each in await caller.effects()] == ["capture", "dispute"]


async def test_a_reference_finds_every_payment_that_carries_it(caller: Caller) -> None:
    """A lookup by metadata.obol_payment is complete at once, and sees this account only."""
    for _ in range(2):
        await caller.pay(metadata={"obol_payment": "pay_1"})
    await caller.pay(metadata={"obol_payment": "pay_2"})
    assert len((await caller.get("/v1/payments?reference=pay_1")).body["data"]) == 2
    assert (await caller.get("/v1/payments?reference=pay_3")).body["data"] == []
    caller.api_key = "sandbox-key-other"
    assert (await caller.get("/v1/payments?reference=pay_1")).body["data"] == []


async def test_a_window_is_read_in_pages_without_gap_or_double(caller: Caller, clock: Clock) -> None:
    """Payments created in [gte, lt), page by page, in the order of their creation."""
    start, ids = int(clock.now), []
    for _ in range(7):
        ids.append((await caller.pay()).body["id"])
        clock.now += 1
    window = f"/v1/payments?created_gte={start + 1}&created_lt={start + 6}&limit=2"
    read: list[str] = []
    more, after = True, ""
    while more:
        page = (await caller.get(window + after)).body
        read += [each["id"] for each in page["data"]]
        more, after = page["has_more"], f"&after={read[-1]}"
    assert read == ids[1:6]


async def test_a_clock_that_steps_back_hides_no_payment(caller: Caller, clock: Clock) -> None:
    """A payment never counts as created before the one ahead of it, so a window that was read stays complete."""
    start = int(clock.now)
    first = (await caller.pay()).body["id"]
    clock.now -= 100
    second = (await caller.pay()).body["id"]
    window = (await caller.get(f"/v1/payments?created_gte={start}")).body["data"]
    assert [each["id"] for each in window] == [first, second]


async def test_events_are_listed_after_a_known_one(caller: Caller) -> None:
    """The list continues after an event, shows the payment as it was then, and refuses an unknown cursor."""
    held = await caller.authorized()
    await caller.post(f"/v1/payments/{held}/capture")
    first, second = (await caller.get("/v1/events")).body["data"]
    assert [first["type"], second["type"]] == ["payment.authorized", "payment.captured"]
    assert first["data"]["object"]["status"] == "authorized"
    assert (await caller.get(f"/v1/events?after={first['id']}")).body["data"] == [second]
    assert (await caller.get(f"/v1/events/{second['id']}")).body == second
    assert (await caller.get("/v1/events?after=sevt_none")).code == "cursor_unknown"


async def test_the_oldest_events_fall_off(opened: Opened) -> None:
    """The event list is bounded; its newest part stays in order."""
    async with opened(bounds=Bounds(events_max=3)) as caller:
        for _ in range(6):
            await caller.pay()
        assert 3 <= len((await caller.get("/v1/events")).body["data"]) <= 4


@pytest.mark.parametrize("path", ["/v1/payments/spay_none", "/v1/refunds/sref_none", "/v1/events/sevt_none"])
async def test_what_is_not_there_is_404(caller: Caller, path: str) -> None:
    """An unknown id is 404 with a code that names the kind."""
    found = await caller.get(path)
    assert (found.status, found.code[:8]) == (404, "no_such_")


async def test_an_account_sees_its_own_payments_only(caller: Caller) -> None:
    """Another account's payment and refund are not there, for reads and for writes."""
    paid = (await caller.pay()).body["id"]
    refund = (await caller.post(f"/v1/payments/{paid}/refunds", {"amount": 1})).body["refunds"][0]["id"]
    caller.api_key = "sandbox-key-other"
    assert (await caller.get(f"/v1/payments/{paid}")).code == "no_such_payment"
    assert (await caller.get(f"/v1/refunds/{refund}")).code == "no_such_refund"
    assert (await caller.post(f"/v1/payments/{paid}/refunds")).code == "no_such_payment"


async def test_a_wrong_key_is_401(caller: Caller) -> None:
    """An unknown API key is refused for reads and writes, before anything else."""
    assert (await caller.get("/v1/account")).body["id"] == "acct_main"
    caller.api_key = "sandbox-key-nobody"
    for refused in (await caller.get("/v1/account"), await caller.pay()):
        assert (refused.status, refused.code) == (401, "invalid_key")
    assert await caller.effects() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 0),
        ("amount", True),
        ("amount", 12.5),
        ("amount", "100"),
        ("amount", 10**15),
        ("currency", "EURO"),
        ("capture", "later"),
        ("confirm", "yes"),
        ("metadata", {"a": 1}),
        ("metadata", {"a": "x" * 501}),
        ("metadata", {str(number): "" for number in range(51)}),
        ("statement_descriptor", "x" * 23),
        ("tip", 1),
    ],
)
async def test_an_invalid_field_is_named(caller: Caller, field: str, value: Any) -> None:
    """400 `invalid_request` with the field at fault, and nothing is booked."""
    refused = await caller.pay(**{field: value})
    assert (refused.status, refused.code, refused.body["error"]["param"]) == (400, "invalid_request", field)
    assert (await caller.get("/v1/payments")).body["data"] == []


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b"[" * 60_000, b'{"amount": 1'])
async def test_a_body_that_is_no_object_is_refused(caller: Caller, raw: bytes) -> None:
    """Broken, deep or strange JSON is 400, never a 500."""
    headers = {"Authorization": f"Bearer {caller.api_key}", "Idempotency-Key": "k"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{caller.url}/v1/payments", data=raw, headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "body")


async def test_a_body_past_its_bound_is_refused(caller: Caller) -> None:
    """More than 64 KiB is 413."""
    refused = await caller.pay(description="x" * 70_000)
    assert (refused.status, refused.code) == (413, "body_too_large")


async def test_a_full_sandbox_refuses_new_payments(opened: Opened) -> None:
    """Past its bound: 503, and the payments that it has go on."""
    async with opened(bounds=Bounds(payments_max=1)) as caller:
        held = await caller.authorized()
        assert (await caller.pay()).code == "payments_full"
        assert (await caller.post(f"/v1/payments/{held}/capture")).status == 200


async def test_fees_are_whole_minor_units(opened: Opened) -> None:
    """A capture has the provider's fee, rounded down."""
    async with opened(terms=Terms(fee_basis_points=290)) as caller:
        assert [fee["amount"] for fee in (await caller.pay(amount=1234)).body["fees"]] == [35]


async def _is(caller: Caller, payment_id: str, status: str) -> bool:
    return bool((await caller.get(f"/v1/payments/{payment_id}")).body["status"] == status)
