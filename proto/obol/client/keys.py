"""Idempotency keys: what makes a repeated command one command.

`key_for` is the one to want. A key that is computed from the business's own identifiers is the same after a crash, in
another process, and in the job that runs twice; so the payment is the same too:

    key_for("invoice", invoice.id, "attempt", invoice.attempt)

Raise the attempt when a person or a dunning schedule decides to try anew after a definite decline, never because an
answer did not come. `new_key` is for what has no identity of its own, such as a button pressed in a back office: make
it once, store it beside the request, and only then send.
"""

import hashlib
import uuid


def new_key() -> str:
    """A random key. Made at each retry it dedupes nothing: make it once, and keep it until there is an answer."""
    return f"new-{uuid.uuid4()}"


def key_for(*parts: str | int) -> str:
    """The one key of these identifiers, in this order: 68 visible ASCII characters.

    ("a", "bc") and ("ab", "c") differ; 7 and "7" are the same, because an identifier that was read from a database is
    the one that was written. Raises ValueError for no parts or an empty one (a missing identifier would give all its
    owners one key), TypeError for anything but str and int.
    """
    if not parts:
        raise ValueError("a key needs identifiers")
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, str | int):
            raise TypeError(f"an identifier is str or int, not {type(part).__name__}")
        text = str(part).encode()
        if not text:
            raise ValueError("an identifier is missing")
        # With its length before it, no two lists of parts give the same bytes.
        digest.update(len(text).to_bytes(8, "big") + text)
    return f"for-{digest.hexdigest()}"
