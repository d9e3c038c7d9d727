"""Where a create goes, and where it goes next: the rules applied to the accounts as they are now.

named by the caller     that account, and no other: rules never overrule it
a rule matches          its accounts in its order; on to the next one where the rule and its bound allow
else                    the default account
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.app.leaving import accounts_left
from gateway.app.modes import Modes
from gateway.app.requests import CreatePayment
from gateway.app.verdicts import Verdict
from gateway.domain.commands import Caller
from gateway.domain.errors import NotFound, ObolError, Precondition, Reason, Unavailable
from gateway.domain.payments import Payment
from gateway.domain.providers import Account, Accounts
from gateway.domain.routes import AttemptOutcome, FailoverOn, Route
from gateway.domain.routing import Question, RoutingRule, Standing, choose

NO_ROUTE_RETRY_S = 10.0

_REFUSED = frozenset(
    {
        Reason.PROVIDER_BUSY,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.PROVIDER_DRAINING,
        Reason.PROVIDER_IN_MAINTENANCE,
    }
)
"""Refusals before the claim that are the account's alone: another one may admit the command."""


class Router:
    """Applies the configured rules. One for a process; holds no state of its own."""

    def __init__(self, accounts: Accounts, modes: Modes, rules: Sequence[RoutingRule] = ()) -> None:
        self._accounts = accounts
        self._modes = modes
        self._rules = tuple(rules)

    def itinerary(self, caller: Caller, request: CreatePayment) -> "Itinerary":
        """The accounts of one call; nothing is decided before it is asked for."""
        return Itinerary(self, caller, request)

    def get(self, account_id: str) -> Account:
        """A configured account. Raises NotFound(ACCOUNT_NOT_FOUND)."""
        account = self._accounts.get(account_id)
        if account is None:
            raise no_account(account_id)
        return account

    def decide(self, caller: Caller, request: CreatePayment) -> tuple[Route | None, tuple[Account, ...]]:
        """The route, where there are rules, and the accounts in order, at least one.

        Raises NotFound(ACCOUNT_NOT_FOUND); and where a rule matched and none of its accounts can take the payment,
        Unavailable or Precondition(NO_ACCOUNT_FITS).
        """
        named = bool(request.provider or request.account_id)
        route = None if named or not self._rules else choose(self._rules, _question(caller, request), self._standings())
        if route is None:
            account = self._accounts.route(provider=request.provider, account_id=request.account_id)
            if account is None:
                raise no_account(request.account_id or request.provider or "the default")
            why = (
                f"the caller named {request.account_id or request.provider}"
                if named
                else "no rule matched: the default"
            )
            kept = Route("", (why,), (account.account_id,)) if self._rules else None
            return kept, (account,)
        if not route.candidates:
            raise _no_route(route)
        return route, tuple(self.get(account_id) for account_id in route.candidates)

    def _standings(self) -> dict[str, Standing]:
        return {
            each.account_id: Standing(
                each.account_id, each.adapter.capabilities, self._modes.of(each.account_id).mode, each.health
            )
            for each in self._accounts.all()
        }


class Itinerary:
    """One call's way over the accounts: where it is, where it was, and whether it may go on. Holds no money."""

    def __init__(self, router: Router, caller: Caller, request: CreatePayment) -> None:
        self._router = router
        self._caller = caller
        self._request = request
        self._route: Route | None = None
        self._known: tuple[Account, ...] = ()
        self._at: Account | None = None
        self._gone: set[str] = set()
        self._untold: list[tuple[str, AttemptOutcome, str]] = []
        self._sends = 0

    def account(self) -> Account:
        """The account that is next to be asked. Raises as `Router.decide` does."""
        self._decide()
        assert self._at is not None
        return self._at

    def account_again(self, payment: Payment) -> Account:
        """The same for a payment that provably is at no provider now: never an account that has declined it.

        The rules are asked anew, since accounts and modes have changed; where they have no say it stays where it is.
        """
        self._decide()
        self._gone.update(accounts_left(payment.route))
        routed = self._route is not None and bool(self._route.rule)
        remaining = self._remaining() if routed else []
        self._at = remaining[0] if remaining else self._router.get(payment.account_id)
        return self._at

    @property
    def chosen_by_rules(self) -> bool:
        """Whether rules had a say: then the same wish may have gone to another account before."""
        return self._route is not None

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether other rules may have sent the same wish elsewhere: not where its caller named the account."""
        return self.chosen_by_rules or not (self._request.provider or self._request.account_id)

    def has_more(self) -> bool:
        """Whether another account would be asked if this one refuses."""
        route = self._route
        allowed = route is not None and FailoverOn.NOT_SENT in route.failover_on and self._sends < route.attempts_max
        here = self._at.account_id if self._at is not None else ""
        return allowed and any(each.account_id != here for each in self._remaining())

    def route(self, now_us: int, before: Route | None = None) -> Route | None:
        """Why the payment is at `account()`, to be kept with it; `before` is what it has kept so far."""
        route = self._route
        if route is None:
            return before
        if before is not None:
            route = replace(route, attempts=before.attempts, left=before.left)
        for account_id, outcome, detail in self._untold:
            route = route.ended_at(account_id, outcome, detail, now_us)
        return route.ended_at(self.account().account_id, AttemptOutcome.CHOSEN, "", now_us)

    def refused(self, refusal: ObolError) -> bool:
        """The account did not admit the command, and nothing was written: go on to the next one, where there is one."""
        if refusal.reason not in _REFUSED or not self.has_more():
            return False
        self._leave(self.account().account_id, AttemptOutcome.REFUSED, f"{refusal.reason}: {refusal.message}")
        return True

    def not_sent(self, payment: Payment, verdict: Verdict) -> bool:
        """`payment`'s account provably did not get it, as is on record: go on to the next one, where there is one."""
        self._decide()
        self._untold.clear()
        self._sends += 1
        self._gone.update(accounts_left(payment.route))
        self._at = self._router.get(payment.account_id)
        if not self.has_more():
            return False
        self._leave(payment.account_id, AttemptOutcome.NOT_SENT, verdict.failure)
        return True

    def _decide(self) -> None:
        if not self._known:
            self._route, self._known = self._router.decide(self._caller, self._request)
            self._at = self._known[0]

    def _remaining(self) -> list[Account]:
        return [each for each in self._known if each.account_id not in self._gone]

    def _leave(self, account_id: str, outcome: AttemptOutcome, detail: str) -> None:
        self._gone.add(account_id)
        self._untold.append((account_id, outcome, detail))
        self._at = self._remaining()[0]


def no_account(wanted: str) -> NotFound:
    """The error for an account that is not configured."""
    return NotFound(
        Reason.ACCOUNT_NOT_FOUND,
        f"no provider account answers to {wanted!r}; see the gateway's `providers` setting",
        field="provider_preference",
    )


def _question(caller: Caller, request: CreatePayment) -> Question:
    # An order is paid once, whatever the key: its next try goes where the first one went.
    seed = f"order/{request.order_reference}" if request.order_reference else f"key/{request.idempotency_key}"
    return Question(
        tenant_id=caller.tenant_id,
        currency=request.currency,
        amount_minor=request.amount_minor,
        payment_method=request.payment_method,
        payer_country=request.payer_country,
        capture_method=request.capture_method,
        confirmation_method=request.confirmation_method,
        seed=f"{caller.tenant_id}/{seed}",
    )


def _no_route(route: Route) -> ObolError:
    words = f"{'; '.join(route.why)}; nothing was sent"
    if any("its mode is" in why for why in route.why):
        return Unavailable(
            Reason.NO_ACCOUNT_FITS,
            words,
            safe_to_retry=True,
            retry_after_s=NO_ROUTE_RETRY_S,
            details={"rule": route.rule},
        )
    return Precondition(Reason.NO_ACCOUNT_FITS, words, details={"rule": route.rule})
