"""An adapter says what it still lacks, and lacks nothing."""

from gateway.domain.adjusting import Adjusts
from gateway.domain.providers import Captures, Refunds
from tests.conformance.discovery import unfinished
from tests.conformance.rig import Rig


def test_nothing_is_left_unfinished(rig: Rig) -> None:
    """Everything that the adapter and its driver were to have is written."""
    missing = unfinished(rig.driver.provider)
    assert not missing, "\n".join([f"{rig.driver.provider} lacks:", *missing])


def test_what_is_offered_as_data_is_offered_in_code(rig: Rig) -> None:
    """Capabilities that name a kind of command have its methods: partial captures without captures are no promise."""
    able = rig.adapter.capabilities
    assert able.provider == rig.driver.provider
    assert isinstance(rig.adapter, Refunds) or not (able.refunds or able.partial_refund)
    assert isinstance(rig.adapter, Captures) or not (able.partial_capture or able.multiple_capture)
    assert isinstance(rig.adapter, Adjusts) or able.adjustment is None
    assert able.key_window_s > 0
    assert able.flight_s_max > 0
