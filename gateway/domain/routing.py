"""Where a new payment goes: rules as data, and their evaluation as a pure function.

The first rule that matches decides; its accounts that cannot take the payment are left out, and one whose breaker is
open is held back to the end. Nothing here is random: weights are drawn by a hash of the order (or of the key), so
that a repeated call chooses the same account.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType

from gateway.domain.modes import ProviderMode
from gateway.domain.providers import AccountHealth, Capabilities
from gateway.domain.routes import WORDS_CHARACTERS_MAX, FailoverOn, Route

CANDIDATES_MAX = 8
"""Accounts of one rule, and so the most that one payment can be tried at."""


class Feature(StrEnum):
    """What a rule can require of an account, beside what the payment itself needs."""

    PARTIAL_CAPTURE = "PARTIAL_CAPTURE"
    MULTIPLE_CAPTURE = "MULTIPLE_CAPTURE"
    REFUNDS = "REFUNDS"
    PARTIAL_REFUND = "PARTIAL_REFUND"


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """One rule. An empty condition matches everything; all conditions must match.

    Amounts are in minor units, from and to inclusive. `payment_methods` are patterns (`*`, `?`) of the request's
    payment method. `accounts` are in order of preference; with `weights`, their order is drawn by them instead.
    """

    name: str
    accounts: tuple[str, ...]
    weights: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    tenants: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset()
    amount_minor_min: int | None = None
    amount_minor_max: int | None = None
    payment_methods: tuple[str, ...] = ()
    payer_countries: frozenset[str] = frozenset()
    requires: frozenset[Feature] = frozenset()
    failover_on: frozenset[FailoverOn] = frozenset({FailoverOn.NOT_SENT})
    attempts_max: int = 3


@dataclass(frozen=True, slots=True)
class Question:
    """What a rule may ask of a payment. `seed` is what a repeat of the call has in common with it."""

    tenant_id: str
    currency: str
    amount_minor: int
    payment_method: str
    payer_country: str
    capture_method: str
    confirmation_method: str
    seed: str


@dataclass(frozen=True, slots=True)
class Standing:
    """An account as it is at the moment of the choice."""

    account_id: str
    capabilities: Capabilities
    mode: ProviderMode = ProviderMode.ACTIVE
    health: AccountHealth = AccountHealth.CLOSED


def matches(rule: RoutingRule, question: Question) -> bool:
    """Whether all of the rule's conditions hold."""
    low, high = rule.amount_minor_min, rule.amount_minor_max
    return (
        (not rule.tenants or question.tenant_id in rule.tenants)
        and (not rule.currencies or question.currency in rule.currencies)
        and (low is None or question.amount_minor >= low)
        and (high is None or question.amount_minor <= high)
        and (not rule.payment_methods or any(fnmatchcase(question.payment_method, p) for p in rule.payment_methods))
        and (not rule.payer_countries or question.payer_country in rule.payer_countries)
    )


def choose(rules: Sequence[RoutingRule], question: Question, standings: Mapping[str, Standing]) -> Route | None:
    """The route by the first rule that matches; its candidates can be empty. None where no rule matches."""
    rule = next((each for each in rules if matches(each, question)), None)
    if rule is None:
        return None
    ready: list[str] = []
    held_back: list[str] = []
    why: list[str] = []
    for account_id in _ordered(rule, question.seed):
        standing = standings.get(account_id)
        obstacle = "not configured" if standing is None else _obstacle(rule, question, standing)
        if obstacle:
            why.append(f"{account_id} is left out: {obstacle}")
        elif standing is not None and standing.health is AccountHealth.OPEN:
            held_back.append(account_id)
            why.append(f"{account_id} is held back: its breaker is open")
        else:
            ready.append(account_id)
    how = "by weight" if rule.weights else "in order of preference"
    candidates = (*ready, *held_back)
    why.insert(0, f"rule {rule.name} matched; {how}: {', '.join(candidates) or 'none'}")
    return Route(
        rule=rule.name,
        why=tuple(words[:WORDS_CHARACTERS_MAX] for words in why),
        candidates=candidates,
        failover_on=rule.failover_on,
        attempts_max=rule.attempts_max,
    )


def _obstacle(rule: RoutingRule, question: Question, standing: Standing) -> str:
    """Why the account cannot take the payment; empty where it can."""
    able = standing.capabilities
    if standing.mode is not ProviderMode.ACTIVE:
        return f"its mode is {standing.mode}"
    if able.currencies and question.currency not in able.currencies:
        return f"it takes no {question.currency}"
    if question.capture_method not in able.capture_methods:
        return f"it offers no {question.capture_method} capture"
    if question.confirmation_method not in able.confirmation_methods:
        return f"it offers no {question.confirmation_method} confirmation"
    if able.amount_minor_max is not None and question.amount_minor > able.amount_minor_max:
        return f"it takes at most {able.amount_minor_max} minor units"
    lacking = sorted(rule.requires - features_of(able))
    return f"it lacks {', '.join(lacking)}" if lacking else ""


def features_of(able: Capabilities) -> frozenset[Feature]:
    """What an account offers of what a rule can require."""
    offered = {
        Feature.PARTIAL_CAPTURE: able.partial_capture,
        Feature.MULTIPLE_CAPTURE: able.multiple_capture,
        Feature.REFUNDS: able.refunds,
        Feature.PARTIAL_REFUND: able.partial_refund,
    }
    return frozenset(feature for feature, has in offered.items() if has)


def _ordered(rule: RoutingRule, seed: str) -> Iterator[str]:
    """The rule's accounts in the order in which this payment prefers them."""
    if not rule.weights:
        yield from rule.accounts
        return
    left = [account_id for account_id in rule.accounts if rule.weights.get(account_id, 0) > 0]
    for draw in range(len(left)):
        point = _drawn(f"{rule.name}/{draw}/{seed}") % sum(rule.weights[account_id] for account_id in left)
        for account_id in left:
            point -= rule.weights[account_id]
            if point < 0:
                left.remove(account_id)
                yield account_id
                break
    # A weight of nothing is a last resort.
    yield from (account_id for account_id in rule.accounts if not rule.weights.get(account_id, 0))


def _drawn(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode("utf-8", "replace")).digest()[:8])


def problems_of(rules: Sequence[RoutingRule], accounts: frozenset[str]) -> Iterator[str]:
    """What is wrong with `rules`, each naming its setting and how to mend it; `accounts` are the configured ones."""
    names = [rule.name for rule in rules]
    for index, rule in enumerate(rules):
        at = f"routing.rules[{index}]"
        if names.index(rule.name) != index:
            yield f"{at}.name: {rule.name!r} is the name of another rule; a timeline tells a rule by its name"
        yield from _problems_of_accounts(at, rule, accounts)
        yield from _problems_of_conditions(at, rule)
        for earlier in rules[:index]:
            if _covers(earlier, rule):
                yield (
                    f"{at}: is never reached, since rule {earlier.name!r} before it matches all that it does; "
                    "move it up, or narrow the other"
                )
                break


def unfit_of(rules: Sequence[RoutingRule], able: Mapping[str, Capabilities]) -> Iterator[str]:
    """Accounts of `rules` that could never take what their rule matches, by their capabilities; a line each."""
    for index, rule in enumerate(rules):
        for account_id in rule.accounts:
            what = able.get(account_id)
            if what is None:
                continue
            at = f"routing.rules[{index}].accounts"
            lacking = sorted(rule.requires - features_of(what))
            if lacking:
                yield f"{at}: {account_id} lacks {', '.join(lacking)}, which the rule requires; take one of them out"
            if rule.currencies and what.currencies and not rule.currencies & what.currencies:
                yield f"{at}: {account_id} takes none of {', '.join(sorted(rule.currencies))}; take it out of the rule"
            low = rule.amount_minor_min
            if low is not None and what.amount_minor_max is not None and low > what.amount_minor_max:
                yield f"{at}: {account_id} takes at most {what.amount_minor_max} minor units; take it out of the rule"


def _problems_of_accounts(at: str, rule: RoutingRule, accounts: frozenset[str]) -> Iterator[str]:
    if not rule.accounts:
        yield f"{at}.accounts: is empty; name an account, or remove the rule"
    if len(rule.accounts) > CANDIDATES_MAX:
        yield f"{at}.accounts: names {len(rule.accounts)} accounts; at most {CANDIDATES_MAX} are tried"
    for account_id in dict.fromkeys(rule.accounts):
        if account_id not in accounts:
            yield f"{at}.accounts: there is no [providers.{account_id}]; configure it, or mend the name"
        if rule.accounts.count(account_id) > 1:
            yield f"{at}.accounts: names {account_id} twice; once is enough"
    for account_id, weight in rule.weights.items():
        if account_id not in rule.accounts:
            yield f"{at}.weights: {account_id} is not among the rule's accounts; add it there, or remove its weight"
        if weight < 0:
            yield f"{at}.weights: {account_id} has {weight}; a weight is 0 or more"
    missing = [account_id for account_id in rule.accounts if account_id not in rule.weights] if rule.weights else []
    if missing:
        yield f"{at}.weights: {', '.join(missing)} has none; give every account of the rule one (0 is a last resort)"
    if rule.weights and sum(max(0, weight) for weight in rule.weights.values()) == 0:
        yield f"{at}.weights: sum to nothing; give an account more than 0, or leave weights out"


def _problems_of_conditions(at: str, rule: RoutingRule) -> Iterator[str]:
    low, high = rule.amount_minor_min, rule.amount_minor_max
    if low is not None and high is not None and low > high:
        yield f"{at}.amount_minor_min: {low} is more than amount_minor_max, {high}; no amount is both"
    if (low is not None or high is not None) and len(rule.currencies) != 1:
        yield f"{at}.currencies: must name one currency where an amount is bounded; minor units differ between them"
    for country in sorted(rule.payer_countries):
        if len(country) != 2 or not country.isascii() or not country.isupper():
            yield f"{at}.payer_countries: {country!r} is no ISO 3166-1 code of two capital letters, such as DE"


def _covers(wide: RoutingRule, narrow: RoutingRule) -> bool:
    """Whether every payment that `narrow` matches is matched by `wide`, as far as patterns can tell."""
    low, high = wide.amount_minor_min, wide.amount_minor_max
    return (
        all(
            not of_wide or (bool(of_narrow) and of_narrow <= of_wide)
            for of_wide, of_narrow in (
                (wide.tenants, narrow.tenants),
                (wide.currencies, narrow.currencies),
                (wide.payer_countries, narrow.payer_countries),
            )
        )
        and (low is None or (narrow.amount_minor_min is not None and narrow.amount_minor_min >= low))
        and (high is None or (narrow.amount_minor_max is not None and narrow.amount_minor_max <= high))
        and _patterns_cover(wide.payment_methods, narrow.payment_methods)
    )


def _patterns_cover(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    if not wide:
        return True
    return bool(narrow) and all(
        any(pattern == each or fnmatchcase(each, pattern) for pattern in wide) for each in narrow
    )
