"""The settings of routing: rules as tables of the file, checked by the domain that evaluates them."""

from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, field_validator

from gateway.config_sections import Section
from gateway.domain.money import CURRENCY_EXPONENTS
from gateway.domain.routes import FailoverOn
from gateway.domain.routing import CANDIDATES_MAX, Feature, RoutingRule


class RuleSection(Section):
    """One routing rule. A condition that is left out matches everything; the first rule that matches decides."""

    name: str = Field(min_length=1, max_length=63, description="what a timeline calls it")
    accounts: tuple[str, ...] = Field(default=(), description="configured accounts, in order of preference")
    weights: dict[str, int] = Field(default_factory=dict, description="account to share; the order is drawn by them")
    tenants: tuple[str, ...] = Field(default=(), max_length=1_000, description="tenants; none for all")
    currencies: tuple[str, ...] = Field(default=(), description="ISO 4217 codes; none for all")
    amount_minor_min: Annotated[int, Field(ge=1)] | None = Field(default=None, description="from, in minor units")
    amount_minor_max: Annotated[int, Field(ge=1)] | None = Field(default=None, description="to, in minor units")
    payment_methods: tuple[str, ...] = Field(
        default=(), max_length=100, description="patterns with * and ? of the request's payment_method; none for all"
    )
    payer_countries: tuple[str, ...] = Field(default=(), description="ISO 3166-1 codes of two letters; none for all")
    requires: tuple[Feature, ...] = Field(default=(), description="features that an account must have")
    failover_on: tuple[FailoverOn, ...] = Field(
        default=(FailoverOn.NOT_SENT,), description="NOT_SENT, SOFT_DECLINE; none to stay with the first account"
    )
    attempts_max: int = Field(default=3, ge=1, le=CANDIDATES_MAX, description="accounts that may be sent to")

    @field_validator("requires", "failover_on", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return tuple(each.upper() if isinstance(each, str) else each for each in value) if _is_list(value) else value

    @field_validator("currencies")
    @classmethod
    def _has_an_exponent(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [code for code in value if code not in CURRENCY_EXPONENTS]
        if unknown:
            raise ValueError(f"there is no currency {', '.join(unknown)}")
        return value

    def rule(self) -> RoutingRule:
        """As the domain has it."""
        return RoutingRule(
            name=self.name,
            accounts=self.accounts,
            weights=MappingProxyType(dict(self.weights)),
            tenants=frozenset(self.tenants),
            currencies=frozenset(self.currencies),
            amount_minor_min=self.amount_minor_min,
            amount_minor_max=self.amount_minor_max,
            payment_methods=self.payment_methods,
            payer_countries=frozenset(self.payer_countries),
            requires=frozenset(self.requires),
            failover_on=frozenset(self.failover_on),
            attempts_max=self.attempts_max,
        )


class RoutingSection(Section):
    """Which account takes a payment that names none."""

    rules: tuple[RuleSection, ...] = Field(
        default=(), max_length=200, description="tables [[routing.rules]], the first that matches decides"
    )


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
