"""Metrics for Prometheus: what the edge, the use cases and the providers tell, under the names that operators look for.

Implements `gateway.app.telemetry.Telemetry` and the edge's `RpcTelemetry`. Every process has a registry and
an exposition port of its own. Labels are bounded: a value that is too long, or one too many, is counted as OTHER.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from threading import Thread
from types import MappingProxyType
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from gateway.domain.commands import CommandKind
from gateway.domain.providers import AccountHealth
from gateway.domain.reconciliation import Standing
from gateway.domain.states import CommandState

LABEL_CHARACTERS_MAX = 64
LABEL_VALUES_MAX = 100
OTHER = "OTHER"

BREAKER_STATES: Mapping[AccountHealth, int] = MappingProxyType(
    {AccountHealth.CLOSED: 0, AccountHealth.HALF_OPEN: 1, AccountHealth.OPEN: 2}
)
"""The value of `obol_breaker_state`."""

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PAYMENT_CALLS = frozenset(kind.value for kind in CommandKind)


class Metrics:
    """All metrics of one process. Calls neither raise nor wait."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._known: dict[str, set[str]] = {}

        # Each gives the child of some label values. Finding one costs prometheus-client more than counting with it.
        def counter(name: str, text: str, *labels: str) -> Callable[..., Counter]:
            return cache(Counter(name, text, labels, registry=registry).labels)

        def gauge(name: str, text: str, *labels: str) -> Callable[..., Gauge]:
            return cache(Gauge(name, text, labels, registry=registry).labels)

        def histogram(name: str, text: str, *labels: str) -> Callable[..., Histogram]:
            return cache(Histogram(name, text, labels, buckets=_LATENCY_S, registry=registry).labels)

        self._rpcs = counter("obol_rpcs_total", "Calls that have ended, streams included.", "rpc", "code")
        self._rpc_latency = histogram("obol_rpc_latency_seconds", "Duration of unary calls.", "rpc")
        self._rpcs_under_way = gauge("obol_rpcs_in_flight", "Calls under way, streams included.", "rpc")
        self._attempts = counter(
            "obol_payment_attempts_total", "Writes sent to a provider.", "provider", "account_id", "kind"
        )
        self._successes = counter(
            "obol_payment_successes_total", "Commands that came to SUCCEEDED.", "provider", "kind"
        )
        self._failures = counter(
            "obol_payment_failures_total", "Commands that came to FAILED.", "provider", "kind", "reason"
        )
        self._commands = counter(
            "obol_commands_total", "Commands, by the state that they came to.", "provider", "kind", "state"
        )
        self._provider_latency = histogram(
            "obol_provider_latency_seconds", "Duration of provider calls.", "provider", "account_id", "kind", "outcome"
        )
        self._breakers = gauge("obol_breaker_state", "0 closed, 1 half-open, 2 open.", "account_id")
        self._replays = counter("obol_idempotency_replays_total", "Keys that were answered from the store.", "rpc")
        self._refusals = counter("obol_refusals_total", "Commands refused before their claim.", "rpc", "reason")
        self._failovers = counter(
            "obol_failovers_total",
            "Creates that left an account, or could not.",
            "account_id",
            "reason",
        )
        self._recoveries = counter(
            "obol_recoveries_total", "Operations that recovery looked after.", "provider", "kind", "result"
        )
        self._fences = counter("obol_fences_lost_total", "Settles that found somebody else's.", "kind")
        self._callbacks = counter("obol_callbacks_total", "Callbacks, by what became of them.", "provider", "state")
        self._contradictions = counter(
            "obol_contradictions_total", "Facts against a final answer or our terms.", "provider", "what"
        )
        self._unmapped = counter(
            "obol_unmapped_values_total", "Provider values that no table knows.", "provider", "field"
        )
        self._unresolved = gauge("obol_unresolved_operations", "Live operations in the database.", "state")
        self._alarms = counter(
            "obol_unresolved_alarms_total", "Operations that were told of as unresolved too long.", "provider", "kind"
        )
        self._alarmed = Gauge(
            "obol_unresolved_alarmed_operations", "Operations that are unresolved too long.", registry=registry
        )
        self._unresolved_age = Gauge(
            "obol_unresolved_age_seconds", "Age of the oldest UNKNOWN operation.", registry=registry
        )
        self._callbacks_live = Gauge(
            "obol_callbacks_live", "Callbacks in the inbox that have not come to rest.", registry=registry
        )
        self._undecided = Gauge(
            "obol_observations_undecided",
            "Observations that a consumer has left undecided for longer than engine.undecided_alarm_s, at least.",
            registry=registry,
        )
        self._reconciliations = counter(
            "obol_reconciliations_total", "Reconciliations that have ended.", "account_id", "state"
        )
        self._breaks = counter(
            "obol_reconciliation_breaks_total",
            "Differences between a provider's books and ours; mends=false ones wait for a person.",
            *("account_id", "type", "mends"),
        )
        self._breaks_open = gauge(
            "obol_reconciliation_breaks_open", "Unmended breaks of the account's last reconciliation.", "account_id"
        )
        self._reconciled_age = gauge(
            "obol_reconciliation_age_seconds", "Since the account's last reconciliation ended.", "account_id"
        )
        self._events = counter(
            "obol_listed_events_total",
            "Events of a provider's list: MISSED by delivery, KNOWN, or GAP where some are kept no more.",
            *("provider", "account_id", "result"),
        )
        gauge("obol_build_info", "1, with the version.", "version")(version).set(1)
        ProcessCollector(registry=registry)

    # What the edge tells.

    def rpc_begun(self, rpc: str) -> None:
        self._rpcs_under_way(rpc).inc()

    def rpc_ended(self, rpc: str, code: str, seconds: float | None) -> None:
        self._rpcs_under_way(rpc).dec()
        self._rpcs(rpc, code).inc()
        if seconds is not None:
            self._rpc_latency(rpc).observe(seconds)

    # What the use cases and the engine tell.

    def attempt(self, provider: str, account_id: str, kind: str, outcome: str, seconds: float) -> None:
        if kind in _PAYMENT_CALLS:
            self._attempts(provider, account_id, kind).inc()
        self._provider_latency(provider, account_id, kind, self._bounded("outcome", outcome)).observe(seconds)

    def command(self, provider: str, kind: str, state: str, reason: str) -> None:
        self._commands(provider, kind, state).inc()
        if state == CommandState.SUCCEEDED:
            self._successes(provider, kind).inc()
        elif state == CommandState.FAILED:
            self._failures(provider, kind, self._bounded("reason", reason)).inc()

    def replay(self, rpc: str) -> None:
        self._replays(rpc).inc()

    def refusal(self, rpc: str, reason: str) -> None:
        self._refusals(rpc, self._bounded("refusal", reason)).inc()

    def failover(self, account_id: str, reason: str) -> None:
        self._failovers(account_id, reason).inc()

    def recovery(self, provider: str, kind: str, result: str) -> None:
        self._recoveries(provider, kind, self._bounded("result", result)).inc()

    def lost_fence(self, kind: str) -> None:
        self._fences(kind).inc()

    def callback(self, provider: str, state: str) -> None:
        self._callbacks(self._bounded("provider", provider), state).inc()

    def contradiction(self, provider: str, what: str) -> None:
        self._contradictions(provider, self._bounded("what", what)).inc()

    def alarm(self, provider: str, kind: str) -> None:
        self._alarms(provider, kind).inc()

    def unmapped(self, provider: str, field: str) -> None:
        self._unmapped(provider, self._bounded("field", field)).inc()

    def reconciliation(self, account_id: str, state: str) -> None:
        self._reconciliations(account_id, state).inc()

    def reconciliation_break(self, account_id: str, kind: str, mends: bool) -> None:
        self._breaks(account_id, kind, "true" if mends else "false").inc()

    def fetched_event(self, provider: str, account_id: str, result: str) -> None:
        self._events(provider, account_id, result).inc()

    # What the composition root and the providers tell.

    def reconciled(self, standings: Sequence[Standing]) -> None:
        """Where the reconciliation of each account stands."""
        for standing in standings:
            self._breaks_open(standing.account_id).set(standing.unmended)
            self._reconciled_age(standing.account_id).set(standing.age_s)

    def breaker(self, account_id: str, health: AccountHealth) -> None:
        """An account's breaker is at `health`."""
        self._breakers(account_id).set(BREAKER_STATES[health])

    def unresolved(
        self,
        live_by_state: Mapping[CommandState, int],
        oldest_unknown_age_s: float,
        callbacks_live: int,
        alarmed: int = 0,
    ) -> None:
        """What the database still has before it; a state that is not named has none."""
        self._alarmed.set(alarmed)
        for state in CommandState:
            self._unresolved(state.value).set(live_by_state.get(state, 0))
        self._unresolved_age.set(oldest_unknown_age_s)
        self._callbacks_live.set(callbacks_live)

    def undecided(self, observations: int) -> None:
        """How many observations have waited too long for a consumer's word."""
        self._undecided.set(observations)

    def _bounded(self, label: str, value: str) -> str:
        known = self._known.setdefault(label, set())
        if value in known:
            return value
        if len(value) > LABEL_CHARACTERS_MAX or len(known) >= LABEL_VALUES_MAX:
            return OTHER
        known.add(value)
        return value


class Exposition:
    """The HTTP port that Prometheus reads, in a thread of its own. Raises OSError where the port is taken."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self._server: WSGIServer
        self._thread: Thread
        self._server, self._thread = start_http_server(port, addr=host, registry=metrics.registry)

    @property
    def port(self) -> int:
        """The port that it got."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop answering. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5.0)
