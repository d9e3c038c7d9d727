"""A short run of the fuzzer, and that it is honest: without the check of the signature it finds what was taken."""

import pytest

from providers.sandbox import callbacks
from tests.fuzz.crafting import craft
from tests.fuzz.run import fuzz

REQUESTS = 3_000


async def test_nothing_unsigned_is_taken_and_nothing_breaks() -> None:
    """Thousands of requests: each has an answer of ours, and of those that were taken each was signed as it came."""
    fuzzed = await fuzz(seed=1, first=0, count=REQUESTS)
    assert fuzzed.findings == []
    assert fuzzed.line == f"fuzz: requests={REQUESTS} accepted={fuzzed.accepted} forged_accepted=0 uncaught=0"
    # It is no wall that refuses everything.
    assert fuzzed.accepted > REQUESTS // 20
    assert {"genuine", "nonsense", "skewed"} <= fuzzed.by_kind.keys()


async def test_without_the_signature_check_the_fuzzer_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forged and changed requests get through then, and are counted."""
    monkeypatch.setattr(callbacks, "_check_signature", lambda body, header, secrets: 1_900_000_000)
    fuzzed = await fuzz(seed=1, first=0, count=300)
    assert fuzzed.forged_accepted > 20


def test_a_request_is_made_again_from_its_seed_and_number() -> None:
    """A finding can be looked at once more."""
    assert [craft(5, number) for number in range(50)] == [craft(5, number) for number in range(50)]
    assert craft(5, 1) != craft(6, 1)
