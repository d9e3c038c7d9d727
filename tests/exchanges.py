"""Every exchange with an imitation of Stripe or PayPal, in any test and any process, held to the provider's documents.

A fixture in tests/conftest.py names a file for each test (`simulators/hearing.py`). Whatever imitation runs under it,
in this process or in one that the test starts, writes down what it heard; afterwards each exchange that differs from
those before is validated. A request that a test makes up by itself, past the adapters, says so (MADE_UP), and then it
may be wrong where the answer says that it is; an adapter's may not.

`python -m tests.exchanges FILE` does the same for a file that was asked for by hand, such as a long torture's:

    SIMULATORS_HEARD=/tmp/heard.jsonl make torture PROVIDER=paypal
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from simulators.hearing import UNANSWERED, VARIABLE, write_down
from simulators.paypal.settings import Exchanged
from simulators.stripe.settings import Heard
from tests import paypal_documents, stripe_document

MADE_UP: Mapping[str, str] = {"Obol-Made-Up": "by a test"}
"""Headers of a request that a test makes up by itself."""
SHOWN_MAX = 10
PAYPALS = tuple(paypal_documents.FILES)
CERTIFICATES = "/v1/notifications/certs/"
"""Of no API: what a delivery's signature is verified with."""

Line = Mapping[str, Any]


@dataclass
class Exchanges:
    """What is written into one file."""

    file: Path
    expected: list[str] = field(default_factory=list)
    """Problems that the test is about: each has to be found, and is then none."""

    def lines(self) -> list[Line]:
        """All of it so far."""
        return [json.loads(line) for line in self.file.read_bytes().splitlines()] if self.file.exists() else []

    def count(self, provider: str) -> int:
        """How many there were so far with this provider."""
        return sum(each.get("provider") == provider for each in self.lines())

    def problems(self) -> list[str]:
        """What they break, one line each; nothing for a provider whose documents are absent."""
        found = [problem for line in self.lines() for problem in broken(line)]
        return list(dict.fromkeys(found))

    def check(self) -> None:
        """Raises AssertionError unless all were in order, but for what was expected."""
        found = self.problems()
        told = [text for text in self.expected if not any(text in problem for problem in found)]
        assert not told, f"not found: {told}"
        left = [problem for problem in found if not any(text in problem for text in self.expected)]
        assert not left, f"{len(left)} break the provider's own documents:\n" + "\n".join(left[:SHOWN_MAX])


def listening() -> Iterator[Exchanges]:
    """Let every imitation that starts from now on write what it hears, and check it at the end."""
    before = os.environ.get(VARIABLE)
    exchanges = Exchanges(Path(tempfile.gettempdir()) / f"heard-{uuid4().hex}.jsonl")
    os.environ[VARIABLE] = str(exchanges.file)
    try:
        yield exchanges
        exchanges.check()
    finally:
        exchanges.file.unlink(missing_ok=True)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def overheard(connection: bytes) -> None:
    """Add the whole requests that came over a connection of HTTP/1.1 to a server that imitates nobody.

    They are Stripe's or PayPal's by what only requests to them have; others, and a certificate's, are passed over.
    """
    file, left = os.environ.get(VARIABLE, ""), connection
    while file and b"\r\n\r\n" in left:
        head, _, left = left.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        length = int(headers.get("content-length", "0"))
        body, left = left[:length], left[length:]
        method, _, target = first.removesuffix(" HTTP/1.1").partition(" ")
        path, _, query = target.partition("?")
        to_paypal = path.startswith(PAYPALS) and not path.startswith(CERTIFICATES)
        provider = "stripe" if "stripe-version" in headers else "paypal" if to_paypal else ""
        if provider and len(body) == length:
            write_down(Path(file), provider, Heard(method, path, query, headers, body, UNANSWERED, ""))


def broken(line: Line) -> list[str]:
    """What one exchange breaks. One like it that was in order before is not looked at again."""
    if "cut" in line:
        return ["more was heard than is written down: not all of it is validated"]
    alike = _likeness(line)
    if alike in _in_order():
        return []
    found = _VALIDATORS[line["provider"]](line)
    if not found:
        _in_order().add(alike)
    return found


def _of_stripe(line: Line) -> list[str]:
    known = stripe_document.document()
    told = ("method", "path", "query", "headers", "status", "answer")
    heard = Heard(body=line["body"].encode(), **{name: line[name] for name in told})
    return [] if known is None else known.broken(heard, made_up=_made_up(line))


def _of_paypal(line: Line) -> list[str]:
    validation = paypal_documents.Validation()
    told = {name: line[name] for name in ("method", "path", "query", "headers", "status")}
    exchanged = Exchanged(body=line["body"].encode(), answer=line["answer"].encode(), **told)
    validation.observe(exchanged, made_up=_made_up(line))
    return validation.violations


_VALIDATORS: Mapping[str, Callable[[Line], list[str]]] = {"stripe": _of_stripe, "paypal": _of_paypal}


def _made_up(line: Line) -> bool:
    return all(line["headers"].get(name.lower()) == value for name, value in MADE_UP.items())


@cache
def _in_order() -> set[str]:
    """What was in order before, in this process."""
    return set()


def _likeness(line: Line) -> str:
    """The exchange without what makes each differ and no document asks for: digits' values, and ids."""
    answer = json.loads(line["answer"]) if line["answer"] else None
    names = {_plain(name): _plain(value) for name, value in line["headers"].items() if name not in _OF_THE_WIRE}
    told = [line["provider"], line["method"], _plain(line["path"]), line["status"], sorted(names.items())]
    return json.dumps([*told, _form(line["query"]), _body(line), _kinds(answer)])


_OF_THE_WIRE = frozenset({"host", "content-length", "idempotency-key", "traceparent", "x-stripe-client-user-agent"})


def _body(line: Line) -> Any:
    if line["headers"].get("content-type", "").startswith("application/json"):
        try:
            return _kinds(json.loads(line["body"] or "null"))
        except ValueError:
            return line["body"]
    return _form(line["body"])


def _form(text: str) -> list[list[str]]:
    return sorted([_plain(name), _plain(value)] for name, value in parse_qsl(text, keep_blank_values=True))


def _kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(name): _kinds(below) for name, below in sorted(value.items())}
    if isinstance(value, list):
        kept: list[Any] = []
        for each in map(_kinds, value):
            kept += [] if each in kept else [each]
        return kept
    return _plain(value) if isinstance(value, str) else value if isinstance(value, bool) else type(value).__name__


def _plain(text: str) -> str:
    """With every digit alike; and words in which digits and letters mix, as ids do, for their length alone."""
    mixed = re.sub(r"(?=[A-Za-z]*[0-9])[A-Za-z0-9]{8,}", lambda found: "~" * len(found.group()), text)
    return re.sub(r"[0-9]", "0", mixed)


def main(arguments: list[str]) -> int:
    """Tell what the exchanges of a file break; 1 where they break anything, or there are none."""
    exchanges = Exchanges(Path(arguments[0]))
    heard, problems = len(exchanges.lines()), exchanges.problems()
    last = f"exchanges: heard={heard} distinct={len(_in_order())} problems={len(problems)}"
    sys.stdout.writelines(f"{each}\n" for each in (*problems, last))
    return 0 if heard and not problems else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
