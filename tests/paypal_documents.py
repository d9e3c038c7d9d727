"""PayPal's own OpenAPI documents: every request to the imitation, and every answer of it, is held against them.

The documents are third-party data and lie outside the tree; without them nothing is validated, and the test that says
so is skipped with that reason.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

from simulators.paypal.methods import UNDOCUMENTED_ISSUE
from simulators.paypal.settings import Exchanged

DOCUMENTS = Path(__file__).resolve().parents[2] / "shared" / "third_party" / "paypal_openapi"
MISSING = "PayPal's OpenAPI documents are not at ../shared/third_party/paypal_openapi"

FILES = {
    "/v2/checkout/": "checkout_orders_v2.json",
    "/v2/payments/": "payments_payment_v2.json",
    "/v1/customer/": "customer_disputes_v1.json",
    "/v1/notifications/": "notifications_webhooks_v1.json",
    "/v1/reporting/": "reporting_transactions_v1.json",
}
"""The beginning of a path to the document that has it."""

Schema = Mapping[str, Any]

HOST = "https://api-m.sandbox.paypal.com"

DIFFERENCES = {
    UNDOCUMENTED_ISSUE: "an issue that no document has, to see that an unknown one is counted",
    "mock_application_codes": "negative testing answers with whatever issue it is asked for",
}
"""Texts of an exchange whose answer is not validated, each with the reason."""

UNDOCUMENTED = {
    413: "the imitation's own bound",
    429: "PayPal tells of its rate limits elsewhere",
}
"""Statuses that the documents do not have, each with the reason."""


@cache
def document(name: str) -> OpenAPI:
    """A document, loaded once for a process."""
    # As it is: by the letter of OpenAPI, the one of disputes has an enum in a wrong place.
    config = Config(spec_validator_cls=None)  # type: ignore[arg-type]  # documented: None means not at all
    # The one of the transaction search has "/v1/reporting" in its server and in its paths: the paths are right.
    told = {**json.loads((DOCUMENTS / name).read_text(encoding="utf-8")), "servers": [{"url": HOST}]}
    return OpenAPI.from_dict(told, config=config)


INVENTED = {
    0: "nobody answered what a test made up",
    400: "a test asked for something malformed",
    401: "a test had no token",
    404: "a test asked for an id that it made up",
    413: "a test sent too much",
}
"""Statuses of an exchange that a test itself made up, whose request is not validated, each with the reason."""

MISTAKEN = {
    "/v1/notifications/webhooks-events/WH-": "the document takes no hyphen in an id, and PayPal's own have three",
    "/v1/notifications/webhooks-events/sevt_nowhere": "the battery makes up an id that no provider has",
    "/v2/checkout/orders/spay_nowhere": "the battery makes up an id that no provider has",
}
"""Beginnings of paths whose requests are not validated, each with the reason."""


class Validation:
    """Collects what does not keep to the documents."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.validated = 0

    def observe(self, exchanged: Exchanged, *, made_up: bool = False) -> None:
        """Validate one exchange. `made_up`: by a test, which may ask for what is wrong.

        The imitation tells of no exchange that no document has: tokens and certificates.
        """
        if not DOCUMENTS.exists():
            return
        excused = made_up and exchanged.status in INVENTED
        name = next((file for begin, file in FILES.items() if exchanged.path.startswith(begin)), "")
        if not name:
            self.violations += [] if excused else [f"{exchanged.method} {exchanged.path}: no document has such a path"]
            return
        request = _Request(exchanged)
        self.validated += 1
        api = document(name)
        if not excused and not exchanged.path.startswith(tuple(MISTAKEN)):
            self._check(exchanged, lambda: api.validate_request(request))
            self.violations += [f"{exchanged.method} {exchanged.path}: {each}" for each in _unheard_of(name, exchanged)]
        if not exchanged.status:
            return
        told = exchanged.answer.decode() + exchanged.headers.get("paypal-mock-response", "")
        if exchanged.status not in UNDOCUMENTED and not any(text in told for text in DIFFERENCES):
            self._check(exchanged, lambda: api.validate_response(request, _Response(exchanged)))

    def _check(self, exchanged: Exchanged, validate: Any) -> None:
        try:
            validate()
        except OpenAPIError as error:
            cause = error.__cause__ or error
            details = [f"{each.json_path}: {each.message[:200]}" for each in getattr(cause, "schema_errors", ())]
            self.violations.append(f"{exchanged.method} {exchanged.path} {exchanged.status}: {cause} {details}")


@cache
def _raw(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((DOCUMENTS / name).read_text(encoding="utf-8"))
    return told


def _unheard_of(name: str, exchanged: Exchanged) -> Iterator[str]:
    """Names in a request that its operation does not have: the documents close no object, and so do not refuse them."""
    told = _raw(name)
    paths = [path for path in told["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), exchanged.path)]
    place = told["paths"][min(paths, key=lambda each: each.count("{"))] if paths else {}
    operation = place.get(exchanged.method.lower())
    if operation is None:
        # validate_request has said so.
        return
    asked = [_resolved(told, each) for each in (*place.get("parameters", ()), *operation.get("parameters", ()))]
    known = {each["name"] for each in asked if each["in"] == "query"}
    yield from (f"{each} is no parameter" for each, _ in parse_qsl(exchanged.query) if each not in known)
    content = _resolved(told, operation.get("requestBody", {})).get("content", {}).get("application/json")
    if content is not None and exchanged.body:
        # What is no JSON, validate_request has refused.
        with contextlib.suppress(ValueError):
            yield from _unknown_names(told, json.loads(exchanged.body), [content["schema"]], "")


def _unknown_names(told: Schema, value: Any, schemas: Sequence[Schema], name: str) -> Iterator[str]:
    whole = list(_whole(told, schemas))
    if isinstance(value, list):
        below = [each["items"] for each in whole if "items" in each]
        for each in value:
            yield from _unknown_names(told, each, below, f"{name}[]")
    elif isinstance(value, dict) and any("properties" in each for each in whole):
        for member, inner in value.items():
            place = f"{name}.{member}" if name else member
            below = [each["properties"][member] for each in whole if member in each.get("properties", ())]
            if below:
                yield from _unknown_names(told, inner, below, place)
            else:
                yield f"{place} is no property"


def _whole(told: Schema, schemas: Sequence[Schema]) -> Iterator[Schema]:
    """Each schema, and all that it is made of."""
    for each in schemas:
        found = _resolved(told, each)
        yield found
        for inner in ("allOf", "anyOf", "oneOf"):
            yield from _whole(told, found.get(inner, ()))


def _resolved(told: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        found: Any = told
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


class _Request:
    """An exchange's request as openapi-core reads it."""

    def __init__(self, exchanged: Exchanged) -> None:
        self.host_url = HOST
        self.path = exchanged.path
        self.method = exchanged.method.lower()
        self.content_type = exchanged.headers.get("content-type", "application/json")
        self.body = exchanged.body or None
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(parse_qsl(exchanged.query)), header=Headers(exchanged.headers)
        )


class _Response:
    """An exchange's answer as openapi-core reads it."""

    def __init__(self, exchanged: Exchanged) -> None:
        self.data = exchanged.answer
        self.status_code = exchanged.status
        self.content_type = "application/json"
        self.headers: dict[str, str] = {}
