"""What an account's section may say under `options` when its provider is Stripe."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

CONNECTED_MAX = 20
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,60}\Z")
NAMES = frozenset({"multicapture", "incremental_authorization", "connected_accounts", "absence_is_consistent"})
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class StripeOptions:
    """`multicapture`: the account may capture in parts. `incremental_authorization`: it may raise what is held.

    `connected_accounts`: those that it acts for, comma-separated.

    Payments are looked up in the connected accounts that are named, and in no other; so no other can be paid to.
    `absence_is_consistent`: see `capabilities`.
    """

    multicapture: bool = False
    connected_accounts: tuple[str, ...] = ()
    absence_is_consistent: bool = True
    incremental_authorization: bool = False

    @staticmethod
    def of(options: Mapping[str, str]) -> "StripeOptions":
        """Raises ValueError, which names the option."""
        unknown = sorted(set(options) - NAMES)
        if unknown:
            raise ValueError(f"options: Stripe knows no {', '.join(unknown)}")
        named = (each.strip() for each in options.get("connected_accounts", "").split(","))
        accounts = tuple(dict.fromkeys(each for each in named if each))
        if len(accounts) > CONNECTED_MAX or not all(_ACCOUNT.match(each) for each in accounts):
            raise ValueError(f"options.connected_accounts: at most {CONNECTED_MAX} of acct_..., comma-separated")
        return StripeOptions(
            multicapture=_flag(options, "multicapture", False),
            connected_accounts=accounts,
            absence_is_consistent=_flag(options, "absence_is_consistent", True),
            incremental_authorization=_flag(options, "incremental_authorization", False),
        )


def _flag(options: Mapping[str, str], name: str, default: bool) -> bool:
    text = options.get(name)
    if text is not None and text not in _FLAGS:
        raise ValueError(f"options.{name}: true or false")
    return default if text is None else _FLAGS[text]
