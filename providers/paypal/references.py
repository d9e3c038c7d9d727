"""Our references in PayPal's fields, legible to a person who searches PayPal's own pages for them.

    purchase_units[].custom_id      pay_... . op_... . cmd_...     (109 of 127 characters) of the create
    purchase_units[].invoice_id     op_...                         of the create
    purchase_units[].reference_id   tenant:organization:correlation:order   (256 characters; the tenant always fits,
                                                                           then the order has what is left)
    capture of an authorization     invoice_id   op_...            of the capture; custom_id is the order's
    refund                          invoice_id   op_..., custom_id as above, of the refund

An invoice id is unique to a write of ours, so that an account that refuses a second payment for one invoice refuses a
second effect of one operation as well. What PayPal or its dashboard makes by itself inherits the ids of what it comes
from: an operation is read from a movement only where the id is not the one that it would have inherited.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from gateway.domain.providers import OperationReference
from providers.fields import Fields

REFERENCE_CHARACTERS_MAX = 256
CUSTOM_CHARACTERS_MAX = 127

_CUSTOM = re.compile(r"(?P<payment>pay_[0-9A-Za-z_-]+)\.(?P<operation>op_[0-9A-Za-z_-]+)\.cmd_[0-9A-Za-z_-]+\Z")
_INVOICE = re.compile(r"op_[0-9A-Za-z_-]+\Z")

SPELLED_CHARACTERS_MAX = 172
"""Of a tenant in a reference id: 128 characters in base64url with their mark."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a purchase unit says of ours; empty where it is none of ours."""

    payment_id: str = ""
    operation_id: str = ""
    tenant_id: str = ""
    order_reference: str = ""


def custom_id(reference: OperationReference) -> str:
    """Payment, operation and command. Raises ValueError where they do not fit, which no id of ours does."""
    told = f"{reference.payment_id}.{reference.operation_id}.{reference.command_id}"
    if len(told) > CUSTOM_CHARACTERS_MAX or not _CUSTOM.match(told):
        raise ValueError("these are no ids of ours")
    return told


def invoice_id(reference: OperationReference) -> str:
    """The operation alone."""
    return reference.operation_id


def reference_id(reference: OperationReference, order_reference: str) -> str:
    """The tenant, and of the rest as much as fits, each left out whole where it does not.

    The order comes first: after a restore it is what a lost payment holds its order by.
    """
    caller = reference.caller
    tenant = _spelled(caller.tenant_id, SPELLED_CHARACTERS_MAX)
    left = REFERENCE_CHARACTERS_MAX - len(tenant) - 3
    fitting = []
    for value in (order_reference, caller.organization_id, caller.correlation_id):
        spelled = _spelled(value, left)
        fitting.append(spelled if len(spelled) <= left else "")
        left -= len(fitting[-1])
    order, organization, correlation = fitting
    return ":".join((tenant, organization, correlation, order))


def told_by(unit: Fields) -> Told:
    """What a purchase unit says; nothing at all unless both of its ids are ours."""
    read = _CUSTOM.match(unit.optional_text("custom_id"))
    if read is None:
        return Told()
    tenant, *rest = unit.optional_text("reference_id").split(":")
    order = rest[2] if len(rest) == 3 else ""
    return Told(read["payment"], read["operation"], _read(tenant), _read(order))


def operation_of(movement: Fields, inherited: Iterable[str]) -> str | None:
    """The operation of ours that made a capture or a refund; None where its id is only inherited."""
    told = movement.optional_text("invoice_id")
    return told if _INVOICE.match(told) and told not in inherited else None


def payment_of(custom: str) -> str:
    """The payment of ours that a custom id names; empty where it is none of ours."""
    read = _CUSTOM.match(custom)
    return read["payment"] if read else ""


def is_ours(custom: str, invoice: str) -> bool:
    """Whether either id was written by this gateway, be it inherited."""
    return bool(_CUSTOM.match(custom) or _INVOICE.match(invoice))


def _spelled(value: str, characters_max: int) -> str:
    """Legible where that is short enough, else in base64url behind "="."""
    plain = quote(value, safe="")
    if len(plain) <= characters_max:
        return plain
    return "=" + base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


def _read(spelled: str) -> str:
    if not spelled.startswith("="):
        return unquote(spelled)
    try:
        padded = spelled[1:] + "=" * (-(len(spelled) - 1) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
