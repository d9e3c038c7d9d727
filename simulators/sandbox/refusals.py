"""Refusals: every error that the API answers with, by code.

    Refusal                     status   type
      invalid_key               401      authentication_error
      invalid_request, ...      400      invalid_request_error
      card_declined, ...        402      card_error
      no_such_...               404      invalid_request_error
      idempotency_...           409/422  idempotency_error
      ..._full, internal_error  503/500  api_error

`kept` refusals are answers of the books: they are stored under the request's key and replayed. The others
were said before the request was looked at, so the same key may try again.
"""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An error answer. `param` names the field at fault, `advice` what to do after a decline."""

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        message: str,
        param: str | None = None,
        kept: bool = False,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.message = status, kind, code, message
        self.param, self.kept, self.advice = param, kept, advice

    def body(self) -> dict[str, Any]:
        """The answer's body: {"error": {type, code, message, param?, advice?}}."""
        more = {"param": self.param, "advice": self.advice}
        error = {"type": self.kind, "code": self.code, "message": self.message}
        return {"error": error | {name: value for name, value in more.items() if value is not None}}


def invalid(param: str, message: str) -> Refusal:
    """400: the request itself is wrong at `param`."""
    return Refusal(400, "invalid_request_error", "invalid_request", message, param)


def refused(code: str, message: str, param: str | None = None) -> Refusal:
    """400: the request is fine, the books say no."""
    return Refusal(400, "invalid_request_error", code, message, param, kept=True)


def declined(code: str, message: str, advice: str) -> Refusal:
    """402: the bank says no to what changes nothing then."""
    return Refusal(402, "card_error", code, message, kept=True, advice=advice)


def missing(what: str, found: str, kept: bool = False) -> Refusal:
    """404: this account has no such thing."""
    return Refusal(404, "invalid_request_error", f"no_such_{what}", f"There is no {what} {found}.", "id", kept)


def key_conflict(status: int, code: str, message: str) -> Refusal:
    """409 or 422: the idempotency key is busy, or was used for something else."""
    return Refusal(status, "idempotency_error", code, message)


def full(what: str) -> Refusal:
    """503: a bound of this sandbox is reached. Nothing was booked."""
    return Refusal(
        503,
        "api_error",
        f"{what}_full",
        f"The sandbox holds no more {what}: start one with a fresh directory.",
    )
