"""What Stripe's imitation gives out, and what the adapter reads of it, beside Stripe's own sample resources.

The samples are of 2026-07-29 and newer than the OpenAPI document, which every exchange is held to already; of each kind
there is one, so a field that is null there may be of any type.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from gateway.domain.movements import MovementKind
from gateway.domain.providers import Found, ListsEvents, ListsPayments
from gateway.domain.setup_checks import ChecksSetup
from providers import strict_json
from providers.stripe import adapter, answers, callbacks, reading, setup
from tests.conformance.rig import TIMEOUT_S, Rig, movements
from tests.conformance.stripe_driver import StripeDriver, stripe
from tests.exchanges import Exchanges
from tests.stripe_document import ABSENT, fixtures

EXCEPTIONS: Mapping[str, str] = {
    "charge.outcome.risk_level": "Radar has not assessed the sample",
    "charge.outcome.risk_score": "the same",
    "charge.payment_method_details.us_bank_account": "the sample is of a card",
    "event.account": "only events of connected accounts have it",
    "event.context": "only thin events have it",
    "payment_intent.automatic_payment_methods.allow_redirects": "the sample leaves it to its default",
    "payment_intent.last_payment_error.advice_code": "the sample's error is no card's, and has a type alone",
    "payment_intent.last_payment_error.charge": "the same",
    "payment_intent.last_payment_error.code": "the same",
    "payment_intent.last_payment_error.decline_code": "the same",
    "payment_intent.last_payment_error.doc_url": "the same",
    "payment_intent.last_payment_error.message": "the same",
    "payment_intent.next_action.redirect_to_url": "the sample has a type alone",
    "refund.failure_balance_transaction": "the sample has not failed",
    "refund.failure_reason": "the same",
}
"""Fields that the sample of their kind lacks, each with the reason."""

KINDS = {"account", "charge", "dispute", "event", "payment_intent", "refund", "webhook_endpoint"}
"""What the imitation gives out, and the adapter reads, all of it."""

Place = tuple[str, str]
"""The kind of an object, and the path of a field in it."""

FREE = {"metadata"}
"""Objects whose names are their owner's."""


def kind_of(told: Mapping[str, Any]) -> str:
    """Of which kind an object is, "" where it is none that has a sample."""
    own = told.get("object")
    return own if isinstance(own, str) and own in fixtures() else ""


class Listened(dict[str, Any]):
    """An object of an answer that remembers which of its fields were asked for, by what they are fields of."""

    def __init__(self, told: Mapping[str, Any], kind: str, path: str, asked: dict[Place, Any]) -> None:
        own = kind_of(told)
        self._kind, self._path = (own, "") if own else (kind, path)
        self._asked = asked
        super().__init__({name: self._below(name, value) for name, value in told.items()})

    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name, default)
        self._note(name, found)
        return found

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        self._note(name, found)
        return found

    def _note(self, name: str, found: Any) -> None:
        place = (self._kind, f"{self._path}{name}")
        if self._kind and self._path.rstrip(".") not in FREE and (found is not None or place not in self._asked):
            self._asked[place] = found

    def _below(self, name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return Listened(value, self._kind, f"{self._path}{name}.", self._asked)
        if isinstance(value, list):
            return [self._below(name, each) for each in value]
        return value


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[Place, Any]:
    """Every field that the adapter asks an answer for, and what it got."""
    found: dict[Place, Any] = {}

    def listening(body: bytes) -> dict[str, Any]:
        return Listened(strict_json.parse_object(body), "", "", found)

    for module in (adapter, answers, callbacks, reading, setup):
        monkeypatch.setattr(module, "parse_object", listening)
    return found


async def play(driver: StripeDriver) -> None:
    """Whatever makes an object or changes it, and then everything that the adapter can read."""
    rig = Rig(driver, driver.adapter())
    methods = driver.methods
    paid = await rig.captured()
    await rig.refund(paid, 100)
    await driver.control("POST", f"payments/{paid.provider_payment_id}/dispute", {})
    _, acted = await rig.created(payment_method=methods.requires_action)
    await driver.payer_answers(acted, approves=True)
    processing = await rig.captured(payment_method=methods.processes)
    pending = await rig.captured(payment_method=methods.refunds_pend)
    await rig.refund(pending, 100)
    (refund,) = [
        each for each in movements(await rig.fetched(pending), MovementKind.REFUND) if each.amount_minor == 100
    ]
    await driver.control("POST", f"refunds/{refund.provider_movement_id}", {"status": "failed"})
    held = await rig.authorized()
    await rig.adjust(held, held.terms.amount_minor + 100)
    await rig.capture(await rig.fetched(held), 300, final=False)
    gone = await rig.authorized()
    await rig.execute(rig.cancels.prepare_cancel(rig.reference(gone.payment_id), gone, reason="abandoned"))
    for token in (methods.declines, "pm_card_radarBlock"):
        await rig.execute(rig.prepare_create(payment_method=token)[1])
    for each in (paid, processing, pending, held, gone):
        found = await rig.adapter.lookup(each.payment_id, timeout_s=TIMEOUT_S)
        assert isinstance(found, Found)
    reader = rig.adapter
    assert isinstance(reader, ListsPayments)
    assert isinstance(reader, ListsEvents)
    assert isinstance(reader, ChecksSetup)
    await reader.list_payments(
        created_from_us=0, created_before_us=2**52, page_token="", limit=100, timeout_s=TIMEOUT_S
    )
    for event in await reader.list_events(after_event_id="", limit=100, timeout_s=TIMEOUT_S):
        rig.reads.interpret(event.body, {})
    await reader.check_setup(callback_path="/webhooks/stripe/stripe-main", timeout_s=TIMEOUT_S)
    await rig.adapter.close()


def sample_of(kind: str, path: str) -> Any:
    """The sample's value at a path. Raises KeyError where it has no such field."""
    found: Any = fixtures()[kind]
    for name in path.split("."):
        found = found[0] if isinstance(found, list) and found else found
        if not isinstance(found, dict):
            raise KeyError(path)
        found = found[name]
    return found


def shown(value: Any, kind: str = "", path: str = "") -> Iterator[tuple[Place, Any]]:
    """Every field of every object of a kind that has a sample, wherever it lies in an answer."""
    if isinstance(value, list):
        for each in value:
            yield from shown(each, kind, path)
    if not isinstance(value, dict):
        return
    if kind_of(value):
        kind, path = kind_of(value), ""
    for name, inner in value.items():
        if kind:
            yield (kind, f"{path}{name}"), inner
        if name not in FREE:
            # What lies below a field that is no object of its own belongs to this one.
            yield from shown(inner, kind, f"{path}{name}.")


def plain(value: Any) -> type:
    """Its type in JSON."""
    return dict if isinstance(value, dict) else type(value)


def differences(fields: Iterable[tuple[Place, Any]]) -> dict[str, str]:
    """What of these fields the samples do not have, or have otherwise, each with how."""
    found: dict[str, str] = {}
    for (kind, path), value in fields:
        try:
            sample = sample_of(kind, path)
        except KeyError:
            found[f"{kind}.{path}"] = "not in the sample"
            continue
        # Asked for so, an object stands where its id would.
        own = value.get("id") if isinstance(value, dict) and isinstance(sample, str) else value
        if None not in (sample, own) and plain(sample) is not plain(own):
            found[f"{kind}.{path}"] = f"{plain(own).__name__}, in the sample {plain(sample).__name__}"
    return found


@pytest.fixture
async def played(asked: dict[Place, Any]) -> None:
    """The story, told once; the samples have to be there."""
    if not fixtures():
        pytest.skip(ABSENT)
    async with stripe(webhook_url="http://127.0.0.1:9/webhooks/stripe/stripe-main") as driver:
        await play(driver)


@pytest.mark.usefixtures("played")
async def test_what_the_imitation_gives_out_is_as_in_the_samples(exchanges: Exchanges, asked: dict[Place, Any]) -> None:
    """Every field that it sends is one of its kind's sample, of the same type; and so is every one that we read."""
    sent = [field for each in exchanges.lines() if each["answer"] for field in shown(json.loads(each["answer"]))]
    assert {kind for (kind, _), _ in sent} == KINDS
    assert {kind for kind, _ in asked} == KINDS
    found = differences([*sent, *asked.items()])
    assert {place: how for place, how in found.items() if not excepted(place)} == {}
    # An exception that the samples have no need of any more is struck off.
    assert {excepted(place) for place in found} == EXCEPTIONS.keys()


def excepted(place: str) -> str:
    """The exception that a field falls under, "" where there is none."""
    return next((name for name in EXCEPTIONS if place == name or place.startswith(f"{name}.")), "")
