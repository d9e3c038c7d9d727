"""Refusals: PayPal's errors, by name and issue, with the words of its OpenAPI documents.

    Refusal            status   name
      invalid          400      INVALID_REQUEST
      unauthenticated  401      AUTHENTICATION_FAILURE
      forbidden        403      NOT_AUTHORIZED
      missing          404      RESOURCE_NOT_FOUND
      in_progress      409      RESOURCE_CONFLICT
      refused          422      UNPROCESSABLE_ENTITY
      full             503      SERVICE_UNAVAILABLE

A `kept` refusal is an answer of the books: it is stored under the request id, and told again.
"""

from __future__ import annotations

from typing import Any

_NAMES = {
    400: ("INVALID_REQUEST", "Request is not well-formed, syntactically incorrect, or violates schema."),
    401: (
        "AUTHENTICATION_FAILURE",
        "Authentication failed due to missing authorization header, or invalid authentication credentials.",
    ),
    403: ("NOT_AUTHORIZED", "Authorization failed due to insufficient permissions."),
    404: ("RESOURCE_NOT_FOUND", "The specified resource does not exist."),
    409: ("RESOURCE_CONFLICT", "The server has detected a conflict while processing this request."),
    413: ("PAYLOAD_TOO_LARGE", "The request is larger than is taken here."),
    422: (
        "UNPROCESSABLE_ENTITY",
        "The requested action could not be performed, semantically incorrect, or failed business validation.",
    ),
    429: ("RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."),
    500: ("INTERNAL_SERVER_ERROR", "An internal server error occurred."),
    503: ("SERVICE_UNAVAILABLE", "Service Unavailable."),
}


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, issue: str = "", words: str = "", kept: bool = False) -> None:
        super().__init__(issue or str(status))
        self.status, self.issue, self.words, self.kept = status, issue, words, kept

    def body(self) -> dict[str, Any]:
        """The answer's body: {name, message, debug_id, details?}."""
        return error_body(self.status, self.issue, self.words)


def error_body(status: int, issue: str = "", words: str = "") -> dict[str, Any]:
    """An error as PayPal writes it."""
    name, message = _NAMES[status]
    told: dict[str, Any] = {"name": name, "message": message, "debug_id": "f5a06a6a7c1d8"}
    if issue:
        detail = {"issue": issue, "description": words} if words else {"issue": issue}
        told["details"] = [detail]
    return told


def invalid(issue: str) -> Refusal:
    """400: the request itself is wrong."""
    return Refusal(400, issue, kept=False)


def forbidden() -> Refusal:
    """403: this app may not do such a thing."""
    return Refusal(403)


def missing(kept: bool = False) -> Refusal:
    """404: this merchant has no such thing."""
    words = "Specified resource ID does not exist. Please check the resource ID and try again."
    return Refusal(404, "INVALID_RESOURCE_ID", words, kept)


def refused(issue: str, words: str = "") -> Refusal:
    """422: the request is fine, the books say no."""
    return Refusal(422, issue, words, kept=True)


def in_progress() -> Refusal:
    """409: the first request with this id is still running."""
    return Refusal(409, "PREVIOUS_REQUEST_IN_PROGRESS")


def full() -> Refusal:
    """503: a bound of this imitation is reached. Nothing was booked."""
    return Refusal(503)
