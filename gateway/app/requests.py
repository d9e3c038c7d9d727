"""The commands' requests, validated: what a caller may ask for, its bounds, and the hash a key is bound to."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from urllib.parse import urlsplit

from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.money import Money, MoneyError
from gateway.domain.payments import CaptureMethod, ConfirmationMethod

IDEMPOTENCY_KEY_CHARACTERS_MAX = 255
REFERENCE_CHARACTERS_MAX = 255
DESCRIPTION_CHARACTERS_MAX = 500
STATEMENT_DESCRIPTOR_CHARACTERS_MAX = 22
URL_CHARACTERS_MAX = 2_048
METADATA_ENTRIES_MAX = 20
METADATA_KEY_CHARACTERS_MAX = 40
METADATA_VALUE_CHARACTERS_MAX = 500
EXPIRE_AFTER_S_MIN = 60
EXPIRE_AFTER_S_MAX = 30 * 24 * 3600

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_METADATA_KEY = re.compile(r"[A-Za-z0-9_.-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COUNTRY = re.compile(r"[A-Z]{2}")
_CARD_SEPARATORS = re.compile(r"[\s.-]")
_CARD_NUMBER = re.compile(r"\d{13,19}")


@dataclass(frozen=True, slots=True)
class CreatePayment:
    """CreatePayment as asked; amounts in minor units, `expire_after_s` None for never."""

    idempotency_key: str
    amount_minor: int
    currency: str
    capture_method: CaptureMethod = CaptureMethod.AUTOMATIC
    confirmation_method: ConfirmationMethod = ConfirmationMethod.AUTOMATIC
    payment_method: str = ""
    customer_reference: str = ""
    description: str = ""
    statement_descriptor: str = ""
    return_url: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    account_id: str = ""
    order_reference: str = ""
    order_reference_unique: bool = False
    expire_after_s: int | None = None
    connected_account: str = ""
    payer_country: str = ""

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_amount(self.amount_minor, self.currency)
        for name in ("payment_method", "customer_reference", "order_reference", "connected_account"):
            _check_text(name, getattr(self, name), REFERENCE_CHARACTERS_MAX)
        _check_text("provider_preference.provider", self.provider, REFERENCE_CHARACTERS_MAX)
        _check_text("provider_preference.account_id", self.account_id, REFERENCE_CHARACTERS_MAX)
        _check_text("description", self.description, DESCRIPTION_CHARACTERS_MAX)
        _check_text("statement_descriptor", self.statement_descriptor, STATEMENT_DESCRIPTOR_CHARACTERS_MAX)
        _check_no_card_number("payment_method", self.payment_method)
        _check_url("return_url", self.return_url)
        _check_metadata(self.metadata)
        if self.payer_country and not _COUNTRY.fullmatch(self.payer_country):
            raise _invalid("payer_country", "must be an ISO 3166-1 code of two capital letters, such as DE")
        if self.order_reference_unique and not self.order_reference:
            raise _invalid("order_reference", "order_reference_unique needs an order_reference")
        if self.expire_after_s is not None and not EXPIRE_AFTER_S_MIN <= self.expire_after_s <= EXPIRE_AFTER_S_MAX:
            raise _invalid("expire_after", f"must be {EXPIRE_AFTER_S_MIN} to {EXPIRE_AFTER_S_MAX} seconds")


@dataclass(frozen=True, slots=True)
class ConfirmPayment:
    """ConfirmPayment as asked; empty fields keep what the payment has."""

    idempotency_key: str
    payment_id: str
    payment_method: str = ""
    return_url: str = ""

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_id("payment_id", self.payment_id)
        _check_text("payment_method", self.payment_method, REFERENCE_CHARACTERS_MAX)
        _check_no_card_number("payment_method", self.payment_method)
        _check_url("return_url", self.return_url)


@dataclass(frozen=True, slots=True)
class CapturePayment:
    """CapturePayment as asked; `amount_minor` None captures all that is capturable."""

    idempotency_key: str
    payment_id: str
    amount_minor: int | None = None
    currency: str = ""
    final: bool = True

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_id("payment_id", self.payment_id)
        if self.amount_minor is not None:
            check_amount(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True)
class AdjustAuthorization:
    """AdjustAuthorization as asked; `amount_minor` is the new total, None keeps it and makes it valid anew."""

    idempotency_key: str
    payment_id: str
    amount_minor: int | None = None
    currency: str = ""

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_id("payment_id", self.payment_id)
        if self.amount_minor is not None:
            check_amount(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True)
class CancelPayment:
    """CancelPayment as asked."""

    idempotency_key: str
    payment_id: str
    reason: str = ""

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_id("payment_id", self.payment_id)
        _check_text("reason", self.reason, REFERENCE_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True)
class RefundPayment:
    """RefundPayment as asked; `amount_minor` None refunds all that is refundable."""

    idempotency_key: str
    payment_id: str
    amount_minor: int | None = None
    currency: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_id("payment_id", self.payment_id)
        if self.amount_minor is not None:
            check_amount(self.amount_minor, self.currency)
        _check_text("reason", self.reason, REFERENCE_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True)
class CompletePayment:
    """What the gateway asks of itself once the payer has approved, where the provider leaves completing to us."""

    idempotency_key: str
    payment_id: str

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        check_id("payment_id", self.payment_id)


_SINCE_THEN = frozenset({"payer_country"})
"""Fields that came after the first release: unset, they leave the hash of a request as that release made it."""

CommandRequest = (
    CreatePayment
    | ConfirmPayment
    | CapturePayment
    | CancelPayment
    | RefundPayment
    | CompletePayment
    | AdjustAuthorization
)


def request_hash(request: CommandRequest) -> bytes:
    """SHA-256 over the canonical request without its key: equal for equal wishes, whatever their wire form."""
    wish = {
        item.name: getattr(request, item.name)
        for item in fields(request)
        if item.name != "idempotency_key" and (item.name not in _SINCE_THEN or getattr(request, item.name))
    }
    canonical = _CANONICAL.encode([type(request).__name__, wish])
    return hashlib.sha256(canonical.encode()).digest()


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain)


def check_idempotency_key(key: str) -> None:
    """Raise InvalidRequest unless `key` is 1 to 255 visible ASCII characters."""
    if not _VISIBLE.fullmatch(key) or len(key) > IDEMPOTENCY_KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            Reason.IDEMPOTENCY_KEY_INVALID,
            f"idempotency_key must be 1 to {IDEMPOTENCY_KEY_CHARACTERS_MAX} visible ASCII characters; "
            "send one key for one intended effect, and the same key when you repeat the call",
            field="idempotency_key",
        )


def check_amount(amount_minor: int, currency: str) -> None:
    """Raise InvalidRequest unless it is more than zero of a known currency, within that currency's bound."""
    try:
        money = Money(amount_minor, currency)
    except MoneyError as error:
        raise _invalid("amount", str(error)) from error
    if money.amount_minor == 0:
        raise _invalid("amount.amount_minor", "must be more than zero")


def check_id(name: str, value: str) -> None:
    """Raise InvalidRequest where an id is missing or longer than any that was ever issued."""
    if not value:
        raise _invalid(name, "is required")
    _check_text(name, value, REFERENCE_CHARACTERS_MAX)


def _check_text(field: str, value: str, characters_max: int) -> None:
    if len(value) > characters_max:
        raise _invalid(field, f"must be at most {characters_max} characters, not {len(value)}")
    if _CONTROL.search(value):
        raise _invalid(field, "must not hold control characters")


def _check_url(field: str, value: str) -> None:
    _check_text(field, value, URL_CHARACTERS_MAX)
    if not value:
        return
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise _invalid(field, "must be an absolute http or https URL")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > METADATA_ENTRIES_MAX:
        raise _invalid("metadata", f"must have at most {METADATA_ENTRIES_MAX} entries, not {len(metadata)}")
    for key, value in metadata.items():
        if not _METADATA_KEY.fullmatch(key) or len(key) > METADATA_KEY_CHARACTERS_MAX:
            raise _invalid("metadata", f"keys must be 1 to {METADATA_KEY_CHARACTERS_MAX} characters of [A-Za-z0-9_.-]")
        if key.lower().startswith("obol"):
            raise _invalid("metadata", "keys must not begin with 'obol', which the gateway keeps for itself")
        _check_text(f"metadata[{key}]", value, METADATA_VALUE_CHARACTERS_MAX)


def _check_no_card_number(field: str, value: str) -> None:
    # A card number must never enter: this catches the plain mistake, and the value itself is not repeated.
    digits = _CARD_SEPARATORS.sub("", value)
    if _CARD_NUMBER.fullmatch(digits) and _passes_luhn(digits):
        raise _invalid(field, "looks like a card number; send the provider's reference of a payment method instead")


def _passes_luhn(digits: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        doubled = int(digit) * 2 if index % 2 else int(digit)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(Reason.FIELD_INVALID, f"{field}: {message}", field=field)
