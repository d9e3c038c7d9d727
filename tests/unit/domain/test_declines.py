"""The vocabulary of declines: every reason has its softness, its published line, and its place in adapters."""

import importlib
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

import providers
from gateway.domain.declines import SOFTNESS, Decline, DeclineReason, Softness, is_soft

PUBLISHED = Path(__file__).parents[3] / "docs" / "declines.md"
OURS = {DeclineReason.NEVER_EXECUTED, DeclineReason.SUPERSEDED, DeclineReason.UNMAPPED}


def tables() -> dict[str, ModuleType]:
    """Each built-in provider's mapping, by provider."""
    names = [each.name for each in pkgutil.iter_modules(providers.__path__) if each.ispkg]
    return {name: importlib.import_module(f"providers.{name}.mapping") for name in names}


def test_every_reason_is_soft_or_hard() -> None:
    """The table is total: a reason cannot come to be without its place."""
    assert set(SOFTNESS) == set(DeclineReason)


@pytest.mark.parametrize("reason", sorted(OURS))
def test_nothing_is_built_on_what_no_provider_said(reason: DeclineReason) -> None:
    """Absence, a superseded try and an unknown code are no ground for a second charge."""
    assert not is_soft(Decline(reason))


def test_no_decline_is_soft() -> None:
    """None at all is not a soft one."""
    assert not is_soft(None)


def test_the_published_table_is_the_code() -> None:
    """Reason by reason, in the order of the code."""
    told = re.findall(r"^\| ([A-Z_]+) \| (hard|soft) \|", PUBLISHED.read_text(), re.MULTILINE)
    assert told == [(reason.value, SOFTNESS[reason].value.lower()) for reason in DeclineReason]
    assert set(Softness) == {Softness.SOFT, Softness.HARD}


@pytest.mark.parametrize("provider", sorted(tables()))
def test_every_adapter_maps_to_the_vocabulary(provider: str) -> None:
    """Codes are the provider's, reasons are ours; none maps to a reason that only the gateway gives."""
    declines = getattr(tables()[provider], "DECLINES", None)
    assert isinstance(declines, Mapping), f"providers/{provider}/mapping.py has no table DECLINES"
    assert declines
    assert all(isinstance(code, str) and code for code in declines)
    # With the provider's usual advice beside it, where the provider gives any.
    reasons = {each[0] if isinstance(each, tuple) else each for each in declines.values()}
    assert {type(reason) for reason in reasons} == {DeclineReason}
    assert not reasons & OURS
