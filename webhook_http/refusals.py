"""Everything that a provider may be told but 200, as one table.

The reason of a 401 stays in our logs and metrics. To the outside an unknown account, a missing signature, a wrong one
and a stale one are one and the same answer, so that nobody learns by trying which accounts there are or how near they
came. That is also why an unknown account is a 401 and no 404.
"""

from enum import Enum


class Refusal(Enum):
    """Why a callback gets no 2xx: the HTTP status, and the words of the answer."""

    BAD_CONTENT_TYPE = (415, "Content-Type must be application/json in UTF-8")
    ENCODED = (415, "Content-Encoding must be identity")
    TOO_LARGE = (413, "the body is too large")
    HEAD_TOO_LARGE = (431, "the headers are too large")
    BODY_LATE = (408, "the body took too long")
    UNREADABLE = (400, "the body is no event")
    EVENT_UNNAMED = (400, "the event's id or type is missing or too long")
    GATEWAY_REFUSED = (400, "the event is not acceptable")
    UNKNOWN_ACCOUNT = (401, "not authentic")
    ACCOUNT_NOT_AT_GATEWAY = (401, "not authentic")
    UNSIGNED = (401, "not authentic")
    FORGED = (401, "not authentic")
    STALE = (401, "not authentic")
    FUTURE = (401, "not authentic")
    NO_SECRET = (401, "not authentic")
    CROWDED = (503, "too much at once")
    VERIFIER_FAILED = (503, "not possible now")
    DRAINING = (503, "about to stop")
    DEFECT = (503, "not possible now")
    GATEWAY_UNREACHABLE = (503, "not possible now")

    # Members with equal values would be aliases of one another: the name joins in.
    def __new__(cls, status: int, words: str) -> "Refusal":
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        self.words = words


class Refused(Exception):
    """A callback is refused. `why` is for our log: bounded, without body or signature."""

    def __init__(self, refusal: Refusal, why: str = "") -> None:
        super().__init__(why or refusal.words)
        self.refusal = refusal
        self.why = why
