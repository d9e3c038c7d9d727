"""Refusals: every error that the API answers with.

Refusal                           status  type                    kept under the key
  a key that is unknown           401     invalid_request_error   no
  a parameter that is wrong       400     invalid_request_error   no: execution has not begun
  the books say no                400     invalid_request_error   yes
  the bank says no                402     card_error              yes
  no such object                  404/400    invalid_request_error   yes, where it is the request's own
  the key is of another request   400     idempotency_error       no
  the key is in use               409     idempotency_error       no
  a bound of this imitation       503     api_error               no
"""

from __future__ import annotations

from typing import Any

DOC_URL = "https://docs.stripe.com/error-codes/"


class Refusal(Exception):
    """An error answer. `more` are further fields of the error object; `kept`: stored under the key and replayed."""

    def __init__(
        self,
        status: int,
        kind: str,
        code: str | None,
        message: str,
        *,
        param: str | None = None,
        kept: bool = False,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.message = status, kind, code, message
        self.param, self.kept, self.more = param, kept, more or {}

    def body(self) -> dict[str, Any]:
        """The answer's body."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error |= {"code": self.code, "doc_url": DOC_URL + self.code.replace("_", "-")}
        if self.param is not None:
            error["param"] = self.param
        return {"error": error | self.more}


def invalid(code: str | None, message: str, param: str) -> Refusal:
    """400: the request itself is wrong at `param`. Not kept: the endpoint has not begun to execute."""
    return Refusal(400, "invalid_request_error", code, message, param=param)


def refused(code: str | None, message: str, param: str | None = None, **more: Any) -> Refusal:
    """400: the request is well-formed, the books say no."""
    return Refusal(400, "invalid_request_error", code, message, param=param, kept=True, more=more)


def missing(what: str, found: str, param: str = "id", *, kept: bool = False, in_body: bool = False) -> Refusal:
    """404: this account has no such object; 400 where a parameter of the body names it."""
    message = f"No such {what}: '{found[:64]}'"
    status = 400 if in_body else 404
    return Refusal(status, "invalid_request_error", "resource_missing", message, param=param, kept=kept)


def unknown_key() -> Refusal:
    """401: nobody's key."""
    return Refusal(401, "invalid_request_error", None, "Invalid API Key provided.")


def no_permission(account: str) -> Refusal:
    """403: the key may not act for that account."""
    message = f"The provided key does not have access to account '{account[:64]}'."
    return Refusal(403, "invalid_request_error", "account_invalid", message)


def another_request(key: str) -> Refusal:
    """400: the key was used with other parameters."""
    message = (
        f"Keys for idempotent requests can only be used with the same parameters. Try another key than {key[:64]}."
    )
    return Refusal(400, "idempotency_error", None, message)


def key_in_use(key: str) -> Refusal:
    """409: another request with this key is executing."""
    message = f"There is currently another in-progress request using this Idempotency Key: {key[:64]}."
    return Refusal(409, "idempotency_error", "idempotency_key_in_use", message)


def full(what: str) -> Refusal:
    """503: a bound of this imitation is reached. Nothing was booked."""
    return Refusal(503, "api_error", None, f"This imitation holds no more {what}: start one with a fresh directory.")
