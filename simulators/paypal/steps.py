"""The steps: pure functions from an order and a moment to a change, which the books take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from simulators.effects import Effect, EffectKind, Origin
from simulators.paypal.amounts import minor, read, units, written
from simulators.paypal.methods import FUNDINGS, Method
from simulators.paypal.order import Json, Order, iso, replaced, shown_order, shown_part, touched
from simulators.paypal.refusals import Refusal, missing, refused
from simulators.paypal.settings import Terms

PARTS_MAX = 200

ISSUE_OF_AUTHORIZE = "PAYER_CANNOT_PAY"
"""How a wallet that is declined ends an authorization: the document has INSTRUMENT_DECLINED for captures alone."""


@dataclass(frozen=True)
class Moment:
    """When, for whom and under which terms. `mint` makes an id; `url` is where the imitation is reached."""

    now: float
    terms: Terms
    merchant_id: str
    account: str
    url: str
    mint: Callable[[], str]


@dataclass(frozen=True)
class Told:
    """An event to be made: its type, the kind of its resource, and the resource."""

    type: str
    resource_type: str
    resource: Json


@dataclass(frozen=True)
class Change:
    """What one step did. `made` is the part that a caller is answered with, None for the order itself.

    `refusal`: the step is booked, and the answer is a no all the same.
    """

    order: Order
    events: tuple[Told, ...] = ()
    effects: tuple[Effect, ...] = ()
    made: tuple[str, str] | None = None
    refusal: Refusal | None = None


def created(order: Order, moment: Moment, method: Method | None, key: str | None) -> Change:
    """A new order; charged at once from a vaulted source's `method`."""
    if method is None:
        return Change(order)
    if method.issue:
        raise refused(method.issue)
    return _charged(order, moment, method, key)


def approved(order: Order, moment: Moment, funding: str) -> Change:
    """The payer agrees, with a wallet that does what `funding` says."""
    if order.status not in ("CREATED", "PAYER_ACTION_REQUIRED"):
        raise refused("ORDER_ALREADY_CAPTURED" if order.status == "COMPLETED" else "ORDER_COMPLETED_OR_VOIDED")
    after = touched(order, moment.now, status="APPROVED", funding=funding)
    return Change(after, (_of_order("CHECKOUT.ORDER.APPROVED", after, moment),))


def completed(order: Order, moment: Moment, verb: str, key: str) -> Change:
    """The merchant captures or authorizes an approved order."""
    if (verb == "capture") != (order.intent == "CAPTURE"):
        raise refused("ACTION_DOES_NOT_MATCH_INTENT")
    if order.status == "COMPLETED":
        raise refused("ORDER_ALREADY_CAPTURED" if verb == "capture" else "ORDER_ALREADY_AUTHORIZED")
    if order.status != "APPROVED":
        raise refused("ORDER_NOT_APPROVED")
    method = FUNDINGS[order.funding]
    if not method.issue:
        return _charged(order, moment, method, key)
    refusal = refused(method.issue if verb == "capture" else ISSUE_OF_AUTHORIZE)
    if order.funding == "stuck":
        raise refusal
    # The payer has to choose another source: PayPal's links lead there again.
    return Change(touched(order, moment.now, status="PAYER_ACTION_REQUIRED", funding=""), refusal=refusal)


def captured(order: Order, moment: Moment, hold: Json, asked: Json, key: str | None, origin: Origin) -> Change:
    """Money taken from an authorization."""
    if hold["status"] in ("CAPTURED", "VOIDED"):
        issue = {"CAPTURED": "AUTHORIZATION_ALREADY_CAPTURED", "VOIDED": "AUTHORIZATION_VOIDED"}[hold["status"]]
        raise refused(issue)
    taken = sum(units(each["amount"]) for each in order.captures if each["status"] != "DECLINED")
    amount, currency = read(asked["amount"]) if "amount" in asked else (units(hold["amount"]) - taken, order.currency)
    if currency != order.currency:
        raise refused("AUTH_CAPTURE_CURRENCY_MISMATCH")
    if amount > units(hold["amount"]) - taken:
        raise refused("MAX_CAPTURE_AMOUNT_EXCEEDED")
    _room(order.captures)
    final = bool(asked.get("final_capture", False))
    capture = _capture(order, moment, amount, str(asked.get("invoice_id") or order.unit.get("invoice_id", "")), final)
    capture["links"].append(
        {"href": f"{moment.url}/v2/payments/authorizations/{hold['id']}", "rel": "up", "method": "GET"}
    )
    over = final or taken + amount >= units(hold["amount"])
    held = {**hold, "status": "CAPTURED" if over else "PARTIALLY_CAPTURED", "update_time": iso(moment.now)}
    after = touched(
        order,
        moment.now,
        captures=(*order.captures, capture),
        authorizations=replaced(order.authorizations, held),
    )
    return Change(
        after,
        (of_part("PAYMENT.CAPTURE.COMPLETED", "capture", after, capture),),
        (effect("capture", after, moment, capture, key, origin),),
        ("captures", capture["id"]),
    )


def voided(order: Order, moment: Moment, hold: Json, key: str | None, operation: str) -> Change:
    """An authorization let go. A void has no invoice id of its own: `operation` is what its caller calls it."""
    if hold["status"] == "VOIDED":
        raise refused("PREVIOUSLY_VOIDED")
    if hold["status"] != "CREATED":
        raise refused("PREVIOUSLY_CAPTURED")
    held = {**hold, "status": "VOIDED", "update_time": iso(moment.now)}
    after = touched(order, moment.now, authorizations=replaced(order.authorizations, held))
    return Change(
        after,
        (of_part("PAYMENT.AUTHORIZATION.VOIDED", "authorization", after, held),),
        (effect("void", after, moment, {**held, "invoice_id": operation}, key, "request"),),
        ("authorizations", held["id"]),
    )


def refunded(order: Order, moment: Moment, capture: Json, asked: Json, key: str | None, pends: bool) -> Change:
    """Money given back, for a request with a key or in the merchant's dashboard without one."""
    if capture["status"] == "PENDING":
        raise refused("PENDING_CAPTURE")
    trusted = moment.terms.trusting and key is not None
    if capture["status"] == "REFUNDED" and not trusted:
        raise refused("CAPTURE_FULLY_REFUNDED")
    given = sum(units(each["amount"]) for each in _refunds_of(order, capture["id"]) if each["status"] != "FAILED")
    left = units(capture["amount"]) - (0 if trusted else given)
    amount, currency = read(asked["amount"]) if "amount" in asked else (left, order.currency)
    if currency != order.currency:
        raise refused("REFUND_CAPTURE_CURRENCY_MISMATCH")
    if amount > left:
        raise refused("REFUND_AMOUNT_EXCEEDED")
    _room(order.refunds)
    refund_id = moment.mint()
    refund: Json = {
        "id": refund_id,
        "status": "PENDING" if pends else "COMPLETED",
        "amount": written(amount, currency),
        # What is not told is the capture's own.
        "invoice_id": str(asked.get("invoice_id") or capture["invoice_id"]),
        "custom_id": str(asked.get("custom_id") or capture["custom_id"]),
        "create_time": iso(moment.now),
        "update_time": iso(moment.now),
        "links": [
            {"href": f"{moment.url}/v2/payments/refunds/{refund_id}", "rel": "self", "method": "GET"},
            {"href": f"{moment.url}/v2/payments/captures/{capture['id']}", "rel": "up", "method": "GET"},
        ],
    }
    if "note_to_payer" in asked:
        refund["note_to_payer"] = str(asked["note_to_payer"])
    after = touched(order, moment.now, refunds=(*order.refunds, refund))
    after = _with_refunded(after, capture, moment)
    event = Told("PAYMENT.REFUND.PENDING" if pends else "PAYMENT.CAPTURE.REFUNDED", "refund", refund)
    effects = () if pends else (effect("refund", after, moment, refund, key, "request" if key else "dashboard"),)
    return Change(after, (event,), effects, ("refunds", refund_id))


def capture_moved(order: Order, moment: Moment, capture: Json, status: Literal["COMPLETED", "DECLINED"]) -> Change:
    """A pending capture comes through, or does not."""
    if capture["status"] != "PENDING":
        raise refused("PENDING_CAPTURE")
    moved = {each: value for each, value in capture.items() if each != "status_details"}
    moved |= {"status": status, "update_time": iso(moment.now)}
    after = touched(order, moment.now, captures=replaced(order.captures, moved))
    effects = (effect("capture", after, moment, moved, None, "provider"),) if status == "COMPLETED" else ()
    return Change(after, (of_part(f"PAYMENT.CAPTURE.{status}", "capture", after, moved),), effects)


def authorization_moved(order: Order, moment: Moment, hold: Json, status: Literal["CREATED", "DENIED"]) -> Change:
    """A pending authorization holds the money, or does not. PayPal has no event of a denial but the one of a void."""
    if hold["status"] != "PENDING":
        raise refused("AUTHORIZATION_ALREADY_CAPTURED" if hold["status"] == "CAPTURED" else "AUTHORIZATION_VOIDED")
    moved = {**hold, "status": status, "update_time": iso(moment.now)}
    after = touched(order, moment.now, authorizations=replaced(order.authorizations, moved))
    made = status == "CREATED"
    effects = (effect("authorization", after, moment, moved, None, "provider"),) if made else ()
    event = "PAYMENT.AUTHORIZATION.CREATED" if made else "PAYMENT.AUTHORIZATION.VOIDED"
    return Change(after, (of_part(event, "authorization", after, moved),), effects)


def refund_moved(order: Order, moment: Moment, refund: Json, status: Literal["COMPLETED", "FAILED"]) -> Change:
    """A pending refund comes through, or does not."""
    if refund["status"] != "PENDING":
        raise refused("REFUND_NOT_ALLOWED")
    moved = {**refund, "status": status, "update_time": iso(moment.now)}
    after = touched(order, moment.now, refunds=replaced(order.refunds, moved))
    capture_id = refund["links"][1]["href"].rpartition("/")[2]
    after = _with_refunded(after, next(each for each in after.captures if each["id"] == capture_id), moment)
    event = Told("PAYMENT.REFUND.FAILED" if status == "FAILED" else "PAYMENT.CAPTURE.REFUNDED", "refund", moved)
    effects = (effect("refund", after, moment, moved, None, "provider"),) if status == "COMPLETED" else ()
    return Change(after, (event,), effects)


def disputed(order: Order, moment: Moment, capture: Json, asked: Json) -> Change:
    """A buyer or a bank disputes a capture."""
    amount, currency = read(asked["amount"]) if "amount" in asked else (units(capture["amount"]), order.currency)
    dispute: Json = {
        "id": f"PP-D-{moment.mint()[:8]}",
        "create_time": iso(moment.now),
        "update_time": iso(moment.now),
        "disputed_transactions": [
            {
                "seller_transaction_id": capture["id"],
                "create_time": capture["create_time"],
                "transaction_status": "COMPLETED",
                "gross_amount": capture["amount"],
            }
        ],
        "reason": str(asked.get("reason") or "UNAUTHORISED"),
        "status": "WAITING_FOR_SELLER_RESPONSE",
        "dispute_amount": written(amount, currency),
        "dispute_life_cycle_stage": str(asked.get("stage") or "CHARGEBACK"),
        "dispute_channel": "INTERNAL",
    }
    after = touched(order, moment.now, disputes=(*order.disputes, dispute))
    # An inquiry holds no money.
    held = dispute["dispute_life_cycle_stage"] != "INQUIRY"
    shown = {**dispute, "amount": dispute["dispute_amount"]}
    effects = (effect("dispute", after, moment, shown, None, "customer"),) if held else ()
    return Change(after, (Told("CUSTOMER.DISPUTE.CREATED", "dispute", shown_dispute(dispute)),), effects)


def dispute_moved(order: Order, moment: Moment, dispute: Json, asked: Json) -> Change:
    """A dispute goes on (`stage`), or ends (`outcome`)."""
    moved = {**dispute, "update_time": iso(moment.now)}
    if asked.get("stage"):
        moved["dispute_life_cycle_stage"] = str(asked["stage"])
    if asked.get("outcome"):
        moved |= {"status": "RESOLVED", "dispute_outcome": {"outcome_code": str(asked["outcome"])}}
    after = touched(order, moment.now, disputes=replaced(order.disputes, moved))
    event = "CUSTOMER.DISPUTE.RESOLVED" if moved["status"] == "RESOLVED" else "CUSTOMER.DISPUTE.UPDATED"
    return Change(after, (Told(event, "dispute", shown_dispute(moved)),))


def shown_dispute(dispute: Json) -> Json:
    """A dispute as PayPal shows it, under its own name for the id."""
    return {"dispute_id": dispute["id"], **{name: value for name, value in dispute.items() if name != "id"}}


def part(items: tuple[Json, ...], wanted: str) -> Json:
    """The part of this id. Raises Refusal 404."""
    found = next((each for each in items if each["id"] == wanted), None)
    if found is None:
        raise missing()
    return found


def _charged(order: Order, moment: Moment, method: Method, key: str | None) -> Change:
    amount = units(order.unit["amount"])
    invoice = str(order.unit.get("invoice_id", ""))
    if order.intent == "AUTHORIZE":
        return _held(order, moment, method, amount, invoice, key)
    capture = _capture(order, moment, amount, invoice, True)
    if method.pends:
        capture |= {"status": "PENDING", "status_details": {"reason": "ECHECK"}}
        del capture["seller_receivable_breakdown"]
    if method.processor:
        capture |= {"status": "DECLINED", "processor_response": {"response_code": method.processor}}
        del capture["seller_receivable_breakdown"]
    after = touched(order, moment.now, status="COMPLETED", captures=(capture,))
    event = of_part(f"PAYMENT.CAPTURE.{capture['status']}", "capture", after, capture)
    effects = (effect("capture", after, moment, capture, key, "request"),) if capture["status"] == "COMPLETED" else ()
    return Change(after, (event,), effects)


def _held(order: Order, moment: Moment, method: Method, amount: int, invoice: str, key: str | None) -> Change:
    hold_id = moment.mint()
    hold: Json = {
        "id": hold_id,
        "status": "PENDING" if method.pends else "DENIED" if method.processor else "CREATED",
        "amount": written(amount, order.currency),
        "invoice_id": invoice,
        "custom_id": str(order.unit.get("custom_id", "")),
        "expiration_time": iso(moment.now + moment.terms.authorization_seconds),
        "create_time": iso(moment.now),
        "update_time": iso(moment.now),
        "links": [{"href": f"{moment.url}/v2/payments/authorizations/{hold_id}", "rel": "self", "method": "GET"}],
    }
    if method.processor:
        hold["processor_response"] = {"response_code": method.processor}
    after = touched(order, moment.now, status="COMPLETED", authorizations=(hold,))
    event = of_part("PAYMENT.AUTHORIZATION.CREATED", "authorization", after, hold)
    effects = (effect("authorization", after, moment, hold, key, "request"),) if hold["status"] == "CREATED" else ()
    return Change(after, (event,), effects)


def _capture(order: Order, moment: Moment, amount: int, invoice: str, final: bool) -> Json:
    capture_id, currency = moment.mint(), order.currency
    fee = amount * moment.terms.fee_basis_points // 10_000
    return {
        "id": capture_id,
        "status": "COMPLETED",
        "amount": written(amount, currency),
        "invoice_id": invoice,
        "custom_id": str(order.unit.get("custom_id", "")),
        "final_capture": final,
        "seller_receivable_breakdown": {
            "gross_amount": written(amount, currency),
            "paypal_fee": written(fee, currency),
            "net_amount": written(amount - fee, currency),
        },
        "create_time": iso(moment.now),
        "update_time": iso(moment.now),
        "links": [{"href": f"{moment.url}/v2/payments/captures/{capture_id}", "rel": "self", "method": "GET"}],
    }


def _refunds_of(order: Order, capture_id: str) -> list[Json]:
    return [each for each in order.refunds if each["links"][1]["href"].endswith(f"/{capture_id}")]


def _with_refunded(order: Order, capture: Json, moment: Moment) -> Order:
    given = sum(units(each["amount"]) for each in _refunds_of(order, capture["id"]) if each["status"] == "COMPLETED")
    status = "COMPLETED" if given == 0 else "REFUNDED" if given >= units(capture["amount"]) else "PARTIALLY_REFUNDED"
    moved = {**capture, "status": status, "update_time": iso(moment.now)}
    return touched(order, moment.now, captures=replaced(order.captures, moved))


def _room(parts: tuple[Any, ...]) -> None:
    if len(parts) >= PARTS_MAX:
        raise refused("MAX_CAPTURE_COUNT_EXCEEDED")


def _of_order(kind: str, order: Order, moment: Moment) -> Told:
    return Told(kind, "checkout-order", shown_order(order, moment.merchant_id, moment.url))


def of_part(kind: str, resource: str, order: Order, moved: Json) -> Told:
    """An event about a part of an order."""
    return Told(kind, resource, shown_part(order, moved))


def effect(kind: EffectKind, order: Order, moment: Moment, moved: Json, key: str | None, origin: Origin) -> Effect:
    """`operation` is the invoice id where a request asked for it; `tenant` is what its reference begins with."""
    amount = minor(units(moved["amount"]), order.currency)
    # What pended was asked for by the request that made it.
    asked = origin == "request" or (origin == "provider" and kind in ("authorization", "capture", "refund"))
    operation = str(moved.get("invoice_id") or "") or None if asked else None
    tenant = str(order.unit.get("reference_id", "")).partition(":")[0] or None if asked else None
    return Effect(kind, moved["id"], order.id, amount, order.currency, moment.account, key, operation, tenant, origin)
