"""ListProviders and SetProviderMode of `obol.v1.Operations`: translate, and nothing else."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.app.modes import Modes
from gateway.app.oversight import Oversight, capabilities_of
from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.modes import AccountMode, ProviderMode
from gateway.domain.providers import Account, AccountHealth, AccountLoad, ShowsLoad
from gateway.rpc.context import Call
from gateway.rpc.reading import invalid
from gateway.rpc.translate import CAPTURE_METHODS, CONFIRMATION_METHODS, time_to_proto
from obol.v1 import operations_pb2 as pb

HEALTHS: Mapping[AccountHealth, pb.ProviderHealth.ValueType] = MappingProxyType(
    {
        AccountHealth.CLOSED: pb.PROVIDER_HEALTH_CLOSED,
        AccountHealth.HALF_OPEN: pb.PROVIDER_HEALTH_HALF_OPEN,
        AccountHealth.OPEN: pb.PROVIDER_HEALTH_OPEN,
    }
)
MODES: Mapping[ProviderMode, pb.ProviderMode.ValueType] = MappingProxyType(
    {
        ProviderMode.ACTIVE: pb.PROVIDER_MODE_ACTIVE,
        ProviderMode.DRAINING: pb.PROVIDER_MODE_DRAINING,
        ProviderMode.MAINTENANCE: pb.PROVIDER_MODE_MAINTENANCE,
    }
)
_MODES_READ = MappingProxyType({value: mode for mode, value in MODES.items()})


class ProviderRpcs:
    """The two methods, over the use cases."""

    def __init__(self, oversight: Oversight, modes: Modes) -> None:
        self._oversight = oversight
        self._modes = modes

    async def ListProviders(self, request: pb.ListProvidersRequest, call: Call) -> pb.ListProvidersResponse:
        accounts = self._oversight.accounts()
        return pb.ListProvidersResponse(
            accounts=[account_to_proto(each, self._modes.of(each.account_id)) for each in accounts]
        )

    async def SetProviderMode(self, request: pb.SetProviderModeRequest, call: Call) -> pb.SetProviderModeResponse:
        mode = _MODES_READ.get(request.mode)
        if mode is None:
            raise invalid("mode", "must be ACTIVE, DRAINING or MAINTENANCE")
        account, known = await self._modes.set(call.caller, request.account_id, mode, request.reason)
        return pb.SetProviderModeResponse(account=account_to_proto(account, known))


def account_to_proto(account: Account, mode: AccountMode) -> pb.ProviderAccount:
    """One account: what it can do, how it stands, what may be sent to it."""
    able = account.adapter.capabilities
    load = account.load if isinstance(account, ShowsLoad) else AccountLoad()
    return pb.ProviderAccount(
        provider=account.provider,
        account_id=account.account_id,
        health=HEALTHS[account.health],
        currencies=sorted(able.currencies),
        capabilities=capabilities_of(account),
        key_window_seconds=able.key_window_s,
        mode=MODES[mode.mode],
        mode_reason=mode.reason,
        mode_actor=mode.actor,
        mode_time=time_to_proto(mode.changed_time_us) if mode.changed_time_us else None,
        capture_methods=[value for member, value in CAPTURE_METHODS.items() if member in able.capture_methods],
        confirmation_methods=[
            value for member, value in CONFIRMATION_METHODS.items() if member in able.confirmation_methods
        ],
        amount_minor_max=able.amount_minor_max or 0,
        rate_per_second=load.rate_per_s,
        rate_burst=load.rate_burst,
        calls_in_flight=load.calls_in_flight,
        calls_waiting=load.calls_waiting,
        flight_seconds_max=able.flight_s_max,
        authorization_adjustment=None if able.adjustment is None else _adjustment(able.adjustment),
    )


def _adjustment(terms: AdjustmentTerms) -> pb.AuthorizationAdjustment:
    return pb.AuthorizationAdjustment(
        raises_amount=terms.raises_amount,
        extends_validity=terms.extends_validity,
        total_percent_max=terms.total_percent_max or 0,
        times_max=terms.times_max or 0,
        from_seconds=terms.from_s,
        until_seconds=terms.until_s or 0,
    )
