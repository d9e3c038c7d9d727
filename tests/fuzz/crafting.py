"""Requests to the sidecar, each from a seed and a number: genuine, forged, and broken in every way we could think of.

`authentic` says whether our secret signed exactly this body, within the tolerance: known from the making, not from the
verifier. What is not may never be taken; what is may be refused, and is never changed on the way.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.webhook.sending import ACCOUNT, NOW_S, SECOND_SECRET, SECRET, SIGNATURE, event, signature

PATH = f"/webhooks/sandbox/{ACCOUNT}"
TOLERANCE_S = 300
EVENTS = 500
"""So many event ids: most genuine ones are duplicates by and by."""

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Crafted:
    """One request. `chunks` is its body as it arrives; with `leaves` the sender goes away before the end."""

    number: int
    method: str
    path: str
    headers: tuple[Header, ...]
    body: bytes
    chunks: tuple[bytes, ...]
    authentic: bool
    leaves: bool = False
    kind: str = ""


def craft(seed: int, number: int) -> Crafted:
    """The `number`-th request of a seed; always the same."""
    chance = random.Random(f"{seed}/{number}")
    made = chance.choices(_KINDS, _WEIGHTS)[0](chance, number)
    return _bothered(chance, made) if chance.random() < 0.3 else made


def _genuine(chance: random.Random, number: int) -> Crafted:
    body = _event(chance)
    return _signed(chance, number, body, kind="genuine")


def _authentic_nonsense(chance: random.Random, number: int) -> Crafted:
    """Our own secret under a body that is no event, or hardly one: a provider's defect."""
    return _signed(chance, number, chance.choice(_BROKEN)(chance, _event(chance)), kind="nonsense")


def _skewed(chance: random.Random, number: int) -> Crafted:
    """Signed by us, at some other time."""
    off_s = chance.choice((-299, 299, -301, 301, -86_400, 86_400, 31_536_000, -int(NOW_S), 10**9))
    made = _signed(chance, number, _event(chance), at_s=NOW_S + off_s, kind="skewed")
    return replace(made, authentic=abs(off_s) <= TOLERANCE_S)


def _forged(chance: random.Random, number: int) -> Crafted:
    """Another secret, another body, another time, or a signature that is none."""
    body = _event(chance)
    value = chance.choice(_FORGERIES)(chance, body)
    return _request(chance, number, body, value, authentic=False, kind="forged")


def _changed(chance: random.Random, number: int) -> Crafted:
    """A genuine request whose body was changed on the way: not one byte of it is signed."""
    body = _event(chance)
    changed = chance.choice(_BROKEN)(chance, body)
    if changed == body:
        changed = body + b" "
    return _request(chance, number, changed, signature(body).encode(), authentic=False, kind="changed")


def _elsewhere(chance: random.Random, number: int) -> Crafted:
    """Genuine, for an account, a provider or a path that is not ours."""
    body = _event(chance)
    path = chance.choice(
        (
            "/webhooks/sandbox/acct_other",
            "/webhooks/stripe/acct_shop",
            f"{PATH}/",
            f"//{PATH}",
            f"{PATH}%2f",
            "/webhooks/sandbox/%00",
            "/webhooks/%ff/x",
            "/",
            "/healthz",
            "/metrics",
        )
    )
    return replace(_signed(chance, number, body, kind="elsewhere"), path=path, authentic=False)


def _raw(chance: random.Random, number: int) -> Crafted:
    """Bytes."""
    body = chance.randbytes(chance.randrange(2_000))
    value = chance.randbytes(chance.randrange(80)).replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
    return _request(chance, number, body, value, authentic=False, kind="raw")


def _large(chance: random.Random, number: int) -> Crafted:
    """Around the bound, signed."""
    size = 256 * 1024 + chance.choice((-1, 0, 1, 70_000))
    body = event(f"evt_{chance.randrange(EVENTS)}", x="")
    body = body.replace(b'"x": ""', b'"x": "' + b"y" * (size - len(body)) + b'"')
    return _signed(chance, number, body, kind="large")


_KINDS: Sequence[Callable[[random.Random, int], Crafted]] = (
    _genuine,
    _authentic_nonsense,
    _skewed,
    _forged,
    _changed,
    _elsewhere,
    _raw,
    _large,
)
_WEIGHTS = (12, 20, 8, 26, 20, 7, 6.9, 0.1)


def _signed(chance: random.Random, number: int, body: bytes, *, at_s: float = NOW_S, kind: str) -> Crafted:
    return _request(chance, number, body, signature(body, at_s=at_s).encode(), authentic=True, kind=kind)


def _request(chance: random.Random, number: int, body: bytes, value: bytes, *, authentic: bool, kind: str) -> Crafted:
    headers = [(b"content-type", b"application/json"), (SIGNATURE.lower().encode(), value)]
    if chance.random() < 0.7:
        headers.append((b"content-length", str(len(body)).encode()))
    return Crafted(number, "POST", PATH, tuple(headers), body, _cut(chance, body), authentic, kind=kind)


def _cut(chance: random.Random, body: bytes) -> tuple[bytes, ...]:
    """The body in up to four pieces, empty ones among them."""
    places = sorted(chance.randrange(len(body) + 1) for _ in range(chance.choice((0, 0, 0, 1, 3))))
    return tuple(body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True))


def _bothered(chance: random.Random, made: Crafted) -> Crafted:
    """Something else is odd as well: a header, the method, a sender who leaves."""
    drawn = chance.randrange(6)
    if drawn == 0:
        return replace(made, leaves=True)
    if drawn == 1:
        return replace(made, method=chance.choice(("GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "PROPFIND")))
    noise = chance.choice(_NOISE)
    if drawn == 2 and noise[0] != b"content-length":
        return replace(made, headers=(noise, *made.headers))
    if drawn == 3:
        return replace(made, headers=made.headers[1:])
    if drawn == 4:
        return replace(made, headers=tuple(reversed(made.headers)) * chance.choice((1, 2)))
    return replace(made, headers=(*made.headers, noise))


_NOISE: Sequence[Header] = (
    (b"content-encoding", b"gzip"),
    (b"content-encoding", b"identity"),
    (b"content-encoding", b"identity, br"),
    (b"content-encoding", b""),
    (b"content-type", b"text/plain"),
    (b"content-type", b"application/json; charset=utf-7"),
    (b"content-length", b"999999999"),
    (b"content-length", b"0"),
    (b"transfer-encoding", b"chunked"),
    (b"expect", b"100-continue"),
    (b"upgrade", b"h2c"),
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"cookie", b"a=" + b"b" * 5_000),
    (b"x-large", b"y" * 17_000),
    (b"x-bytes", bytes(range(128, 256))),
    (b"sandbox-signature", b"t=1,v1=00"),
    (b"sandbox-anything", b"z" * 900),
)


def _event(chance: random.Random) -> bytes:
    return event(f"evt_{chance.randrange(EVENTS)}", created=chance.randrange(10))


def _flipped(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body))
    return body[:place] + bytes([body[place] ^ (1 << chance.randrange(8))]) + body[place + 1 :]


def _spliced(chance: random.Random, body: bytes) -> bytes:
    start, end = sorted((chance.randrange(len(body)), chance.randrange(len(body))))
    return body[:start] + chance.randbytes(chance.randrange(6)) + body[end:]


def _odd_field(chance: random.Random, body: bytes) -> bytes:
    fields = json.loads(body)
    name = chance.choice(("id", "object", "type", "livemode", "account", "created", "data"))
    odd = chance.choice(_ODD)
    if odd is _GONE:
        fields.pop(name)
    else:
        fields[name] = odd
    return json.dumps(fields).encode("utf-8", "surrogatepass")


_GONE = object()
_ODD: Sequence[object] = (
    _GONE,
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    "",
    "x" * 300,
    "\0",
    "\u202e",
    "\ud800",
    "'; DROP TABLE payments; --",
    "../../etc/passwd",
    [],
    {},
    {"object": {"object": "payment", "id": 7}},
    {"object": {"object": "payment", "id": "sp_1", "metadata": {"obol_payment": "pay_1", "obol_tenant": 5}}},
    [[[[[]]]]],
)

_BROKEN: Sequence[Callable[[random.Random, bytes], bytes]] = (
    _flipped,
    _flipped,
    _spliced,
    _odd_field,
    _odd_field,
    lambda _, body: body[:-1],
    lambda _, body: body + b"x",
    lambda _, body: body[:-1] + b', "id": "evt_twice"}',
    lambda _, body: body.replace(b": 1", b": NaN").replace(b": 2", b": 1e999"),
    lambda chance, _: chance.choice((b"[", b'{"a":')) * chance.choice((10, 1_000, 20_000)),
    lambda _, body: b"\xef\xbb\xbf" + body,
    lambda _, body: body.decode().encode("utf-16"),
    lambda _, body: b"",
    lambda chance, _: json.dumps(chance.choice(_ODD[1:])).encode("utf-8", "replace"),
    lambda _, body: b"[" + body + b"]",
    lambda _, body: body + b"\n" + body,
)

_FORGERIES: Sequence[Callable[[random.Random, bytes], bytes]] = (
    lambda _, body: signature(body, secret=SECOND_SECRET).encode(),
    lambda _, body: signature(body, secret="").encode(),
    lambda _, body: signature(body + b" ").encode(),
    lambda chance, body: signature(body).replace("v1=", "v1=" + chance.choice("0123456789abcdef"), 1)[:-1].encode(),
    lambda _, body: signature(body).replace("t=1", "t=2", 1).encode(),
    lambda _, body: signature(body).replace("v1=", "v0=").encode(),
    lambda _, body: signature(body, at_s=NOW_S - 301).replace(f"{NOW_S - 301:.0f}", f"{NOW_S:.0f}").encode(),
    lambda _, body: b"t=" + b"9" * 5_000 + b",v1=" + b"0" * 64,
    lambda _, body: b"t=1900000000,v1=" + b"0" * 64,
    lambda _, body: b"t=1900000000,v1=",
    lambda _, body: b"v1=" + b"0" * 64,
    lambda _, body: b"",
    lambda _, body: b"t=1900000000,v1=" + "٣".encode() * 32,
    lambda _, body: SECRET.encode(),
    lambda _, body: b"t=1900000000," + b"v1=" + b"a" * 64 + b",v1=" * 200,
)
