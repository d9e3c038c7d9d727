"""Callbacks that come twice, in any order, too early, of somebody else, or with another's money: none does harm.

What is not authentic never comes this far (tests/webhook). Here a verified callback is in the inbox, and is a hint.
"""

import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app.callbacks import BODY_BYTES_MAX, Delivery
from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.domain.commands import Caller, CommandKind
from gateway.domain.errors import InvalidRequest
from gateway.domain.movements import AttemptStatus, MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind
from gateway.domain.payments import Payment
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Store
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry, build_accounts
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from store.tables import metadata
from tests.crash.rig import BRIEF, caller_of, change, effects_of, rows, runtime_on
from tests.databases import sqlite_url
from tests.store.looking import connect_sqlite
from tests.unit.app.beginnings import begun
from tests.unit.app.desk import Desk

CALLER = caller_of("t1")
SIDECAR = Caller("", "", "webhook:sandbox", "corr-sidecar")
MAIN, OTHER = "acct_main", "acct_other"


@dataclass
class Scene:
    """A gateway of two accounts, one payment, and the provider's events of it."""

    url: str
    sandbox_url: str
    log: Path
    store: Store
    accounts: AccountRegistry
    runtime: Runtime
    payment: Payment
    event: dict[str, Any]

    async def deliver(self, account_id: str = MAIN, **changed: Any) -> str:
        """The payment's event, changed, into the inbox and applied; where it stands then."""
        body = json.dumps({**self.event, **changed}).encode()
        event_id = str(changed.get("id", self.event["id"]))
        delivery = Delivery("sandbox", account_id, event_id, self.event["type"], body, {}, 0)
        callback_id, _ = await self.runtime.callbacks.deliver(SIDECAR, delivery)
        await self.apply()
        return await self.standing(callback_id)

    async def apply(self) -> None:
        """Let the inbox be worked off as far as it can be."""
        taken = 1
        while taken:
            taken = await self.runtime.applier.run_once()

    async def standing(self, callback_id: str) -> str:
        """`STATE: note` of a callback."""
        ((state, note),) = await rows(
            self.url, "SELECT state, note FROM callbacks WHERE callback_id = :id", id=callback_id
        )
        return f"{state}: {note}"

    async def versions(self) -> int:
        """The payment's version."""
        found = await self.store.get_payment(CALLER.tenant_id, self.payment.payment_id)
        assert found is not None
        return found.version

    async def ask(self, path: str, *, key: str = "sandbox-key-main", body: Any = None) -> Any:
        """The provider, past the gateway."""
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"test-{path}-{hash(str(body))}"}
        method = "GET" if body is None else "POST"
        url = self.sandbox_url + path
        async with aiohttp.ClientSession() as session, session.request(method, url, json=body, headers=headers) as got:
            assert got.status < 300, await got.text()
            return await got.json()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A captured payment, whose last event nobody has told us of; at the end every invariant holds."""
    url = sqlite_url(tmp_path)
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), both_accounts(sandbox_url)
        runtime = runtime_on(store, accounts)
        payment = await create(store, runtime, "c")
        log = tmp_path / "sandbox" / "effects.jsonl"
        scene = Scene(url, sandbox_url, log, store, accounts, runtime, payment, {})
        scene.event = (await scene.ask("/v1/events?limit=100"))["data"][-1]
        yield scene
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log)
    assert report.violations == []


def both_accounts(sandbox_url: str) -> AccountRegistry:
    """Two accounts of ours at one provider."""
    named = ((MAIN, "sandbox-key-main"), (OTHER, "sandbox-key-other"))
    return build_accounts(
        AccountsSettings(
            tuple(ProviderAccountSettings(name, "sandbox", sandbox_url, Secret(key), name) for name, key in named), MAIN
        )
    )


async def create(store: Store, runtime: Runtime, key: str, caller: Caller = CALLER, **asked: Any) -> Payment:
    """A payment of 1,000."""
    request = CreatePayment(key, 1_000, "EUR", **{"payment_method": "card_ok"} | asked)
    reply = await runtime.commands.create(caller, request, 20)
    payment_id = pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id
    found = await store.get_payment(caller.tenant_id, payment_id)
    assert found is not None
    return found


async def test_a_genuine_event_of_what_is_known_teaches_nothing_new(scene: Scene) -> None:
    """It is applied, and writes no version: the yardstick of the rest."""
    before = await scene.versions()
    assert await scene.deliver() == "APPLIED: taught nothing new"
    assert await scene.versions() == before


async def test_an_event_of_another_tenants_payment_changes_neither(scene: Scene) -> None:
    """It names the payment of one tenant and the object of another: quarantined, and a person is told."""
    stranger = await create(scene.store, scene.runtime, "c", caller_of("t2"))
    about = scene.event["data"]["object"]
    metadata = {**about["metadata"], "obol_tenant": "t2", "obol_payment": stranger.payment_id}
    standing = await scene.deliver(id="evt_forged", data={"object": {**about, "metadata": metadata}})
    assert standing == "QUARANTINED: mismatch: the provider's object carries another payment's reference"
    for tenant_id, payment in (("t1", scene.payment), ("t2", stranger)):
        found = await scene.store.get_payment(tenant_id, payment.payment_id)
        assert found is not None
        assert (found.facts, found.state) == (payment.facts, PaymentState.CAPTURED)


async def test_an_event_of_another_account_is_quarantined(scene: Scene) -> None:
    """Delivered to one account of ours, it names a payment of the other: nothing is fetched, nothing changes."""
    before = await scene.versions()
    assert await scene.deliver(OTHER) == "QUARANTINED: it names a payment of another account"
    assert await scene.versions() == before


@pytest.mark.parametrize("named", [True, False])
async def test_an_event_of_an_object_that_our_account_does_not_have_does_nothing(scene: Scene, named: bool) -> None:
    """A test event at a live account, or another merchant's: its object cannot be read with our key."""
    about = {**scene.event["data"]["object"], "id": "spay_of_the_test_mode"}
    if not named:
        about["metadata"] = {}
    before = await scene.versions()
    standing = await scene.deliver(id="evt_test", livemode=False, account="acct_test", data={"object": about})
    assert standing == (
        "QUARANTINED: the provider has no such object" if named else "IGNORED: the provider does not have the object"
    )
    assert await scene.versions() == before


async def test_an_object_with_other_money_is_quarantined(scene: Scene) -> None:
    """An event under our reference whose object is of other money: nothing is merged; it is told (CVE-2026-9189)."""
    await change(scene.url, "UPDATE payments SET amount_minor = 999")  # as if the provider's were another
    assert await scene.deliver() == "QUARANTINED: mismatch: amount 1000, not 999"
    told = await rows(scene.url, "SELECT detail FROM observations WHERE kind = 'CONTRADICTION'")
    assert [detail for (detail,) in told] == ["mismatch: amount 1000, not 999"]
    await change(scene.url, "UPDATE payments SET amount_minor = 1000")


async def test_an_event_before_its_payment_waits_for_it(scene: Scene, tmp_path: Path) -> None:
    """A gateway that does not have the payment yet keeps the event, waits, and applies it when the payment is there."""
    waiting = await create(scene.store, scene.runtime, "w", payment_method="card_requires_action")
    behind, apart = connect_sqlite(scene.url), tmp_path / "earlier.db"
    with closing(sqlite3.connect(apart)) as earlier:
        behind.backup(earlier)
    behind.close()
    await scene.ask(f"/customer/{waiting.provider_payment_id}", body={"outcome": "approve"})
    event = (await scene.ask("/v1/events?limit=100"))["data"][-1]
    url = sqlite_url(tmp_path)
    store = await open_store(url)
    elsewhere = replace(scene, url=url, store=store, runtime=runtime_on(store, scene.accounts), event=event)
    assert await elsewhere.deliver() == "WAITING: its payment is not here yet"
    with closing(connect_sqlite(url)) as late:
        late.execute("ATTACH ? AS earlier", (str(apart),))
        for table in metadata.sorted_tables:
            if table.name not in ("callbacks", "audit", "counters"):
                late.execute(f"INSERT INTO {table.name} SELECT * FROM earlier.{table.name}")
    await change(url, "UPDATE callbacks SET next_attempt_us = 1")
    await elsewhere.apply()
    found = await store.get_payment(CALLER.tenant_id, waiting.payment_id)
    assert found is not None
    assert found.state is PaymentState.CAPTURED
    assert await rows(url, "SELECT state, tries FROM callbacks") == [("APPLIED", 2)]
    await store.close()


async def test_what_never_finds_its_payment_rests_with_a_person(scene: Scene) -> None:
    """After days of waiting it is quarantined, kept whole, and can be replayed."""
    about = scene.event["data"]["object"]
    metadata = {**about["metadata"], "obol_payment": "pay_nobody"}
    await scene.deliver(id="evt_lost", data={"object": {**about, "metadata": metadata}})
    past_us = int(BRIEF.callback_give_up_s * 1_000_000) + 1
    await change(
        scene.url, f"UPDATE callbacks SET next_attempt_us = 1, received_time_us = received_time_us - {past_us}"
    )
    await scene.apply()
    ((state, note),) = await rows(scene.url, "SELECT state, note FROM callbacks WHERE event_id = 'evt_lost'")
    assert (state, note) == ("QUARANTINED", "given up: its payment is not here yet")


async def test_an_unknown_type_is_kept_and_acknowledged(scene: Scene) -> None:
    """Nobody knows what it means; it is IGNORED, and its body is still there to be read."""
    body = json.dumps({**scene.event, "id": "evt_new", "type": "galaxy.collided", "data": {"object": {}}}).encode()
    delivery = Delivery("sandbox", MAIN, "evt_new", "galaxy.collided", body, {}, 0)
    callback_id, duplicate = await scene.runtime.callbacks.deliver(SIDECAR, delivery)
    assert not duplicate
    await scene.apply()
    assert await scene.standing(callback_id) == "IGNORED: unknown type: galaxy.collided"
    ((kept,),) = await rows(scene.url, "SELECT body FROM callbacks WHERE event_id = 'evt_new'")
    assert bytes(kept) == body


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"id": 1}'], ids=range(5))
async def test_a_body_that_nobody_can_read_holds_up_nothing(scene: Scene, body: bytes) -> None:
    """Verified all the same (a provider's new format): quarantined; the next one is applied."""
    delivery = Delivery("sandbox", MAIN, "evt_odd", "payment.captured", body, {}, 0)
    callback_id, _ = await scene.runtime.callbacks.deliver(SIDECAR, delivery)
    assert await scene.deliver() == "APPLIED: taught nothing new"
    assert (await scene.standing(callback_id)).startswith("QUARANTINED: unreadable: ")


async def test_a_body_of_256_kib_is_kept_and_not_a_byte_more(scene: Scene) -> None:
    """The bound of the contract holds at the gateway, too."""
    padding = "x" * (BODY_BYTES_MAX - len(json.dumps({**scene.event, "padding": ""})))
    assert await scene.deliver(padding=padding) == "APPLIED: taught nothing new"
    with pytest.raises(InvalidRequest):
        await scene.deliver(id=scene.event["id"][::-1], padding=padding + "x")
    assert effects_of(scene.log, "t1") == ["capture"]


def test_every_order_of_six_events_ends_alike() -> None:
    """All 720: the same facts, state, disputes and refunds, and one conclusion of the command."""
    desk, books = begun(outcome=AttemptStatus.REQUIRES_ACTION)
    seen = [books.snapshot()]
    kinds, statuses = MovementKind, MovementStatus
    happenings: list[Callable[[], bool]] = [
        lambda: books.finish_attempt(succeeds=True),
        lambda: books.refund_by_dashboard(30),
        lambda: books.dispute(50, statuses.OPEN),
        lambda: books.move(kinds.DISPUTE, statuses.OPEN, statuses.WON),
        lambda: books.move(kinds.REFUND, statuses.SUCCEEDED, statuses.FAILED),
    ]
    for happens in happenings:
        assert happens()
        seen.append(books.snapshot())
    ends = set()
    at_first = desk.aggregate
    for order in itertools.permutations(seen):
        desk = _desk_at(desk, at_first)
        for snapshot in order:
            desk.called_back(snapshot)
        concluded = desk.said(ObservationKind.COMMAND_CONCLUDED)
        assert [each.command_kind for each in concluded] == [CommandKind.CREATE]
        payment = desk.payment
        # Whether it was ever seen to have succeeded is all that tells a failure from a reversal: no money stayed moved.
        assert {refund.state for refund in desk.aggregate.refunds} <= {CommandState.FAILED, CommandState.REVERSED}
        refunds = tuple((refund.provider_refund_id, refund.amount_minor) for refund in desk.aggregate.refunds)
        ends.add((payment.facts, payment.sums, payment.state, payment.dispute_state, payment.next_action, refunds))
    ((facts, _, state, *_),) = ends
    assert state is PaymentState.CAPTURED
    assert facts == books.snapshot().facts


def _desk_at(desk: Desk, aggregate: Any) -> Desk:
    """The same desk, as it was when nothing had been told yet."""
    desk.aggregate, desk.history, desk.observations, desk.replies = aggregate, [], [], {}
    return desk
