"""The README's way to a test payment, for each provider: what it says to set is enough, and what it says to type works.

The provider is its imitation in this process; what is put in place of the text is the address and the dots.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.demo.installation import HOST, free_ports, serves
from gateway.demo.process import Process, wait_until
from simulators.paypal.server import running as paypal
from simulators.paypal.settings import Merchant, PayPalSettings
from simulators.stripe.server import running as stripe
from simulators.stripe.settings import StripeSettings

README = (Path(__file__).parents[2] / "README.md").read_text()
TOOLS = Path(sys.executable).parent
GATEWAY_READY_S = 60.0
EXPORT = re.compile(r"^export (OBOL_PROVIDERS__\w+)=(\S+)", re.MULTILINE)

pytestmark = pytest.mark.slow


def blocks(provider: str) -> list[str]:
    """What the README says to type."""
    return re.findall(rf"<!-- provider: {provider} -->\n```sh\n(.*?)```", README, re.DOTALL)


def grpcurl(block: str) -> str:
    """The call of a block, as it stands."""
    return block[block.index("grpcurl ") :]


@asynccontextmanager
async def serving(folder: Path, told: Mapping[str, str]) -> AsyncIterator[str]:
    """`obol serve` with these settings and none else but where it listens; its gRPC address."""
    (port,) = free_ports(1)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OBOL_")}
    own = {"OBOL_DATA_DIR": str(folder), "OBOL_GRPC__PORT": str(port), "OBOL_METRICS__ENABLED": "false"}
    gateway = Process("gateway", ("serve",), environment={**plain, **own, **told}, log=folder / "gateway.log")
    gateway.start()
    try:
        target = f"{HOST}:{port}"
        await asyncio.to_thread(
            wait_until, lambda: serves(target), "it serves", within_s=GATEWAY_READY_S, meanwhile=gateway.check
        )
        yield target
    finally:
        gateway.stop(grace_s=10.0)


async def typed(command: str, target: str) -> str:
    """What a command prints, asked of this gateway."""
    there = command.replace("127.0.0.1:50051", target)
    environment = {"PATH": f"{TOOLS}:/usr/bin:/bin"}
    done: subprocess.CompletedProcess[str] = await asyncio.to_thread(
        lambda: subprocess.run(
            ["bash", "-c", there], check=False, capture_output=True, text=True, timeout=30, env=environment
        )
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(block: str, base_url: str, **values: str) -> Mapping[str, str]:
    """The variables that a block sets, with the imitation's address, and these values for their dots."""
    told: dict[str, str] = dict(EXPORT.findall(block))
    assert told, block
    account = next(iter(told)).split("__")[1]
    known = {name: values.get(name.rpartition("__")[2].lower(), value) for name, value in told.items()}
    return {**known, f"OBOL_PROVIDERS__{account}__BASE_URL": base_url}


async def test_a_key_is_all_that_a_payment_at_stripe_needs(tmp_path: Path) -> None:
    """One variable, and a payment is captured."""
    (block,) = blocks("stripe")
    assert EXPORT.findall(block) == [("OBOL_PROVIDERS__STRIPE__API_KEY", "sk_test_...")]
    async with (
        stripe(StripeSettings(tmp_path / "stripe", port=0)) as url,
        serving(tmp_path, exported(block, url, api_key="sk_test_simulated")) as target,
    ):
        assert "PAYMENT_STATE_CAPTURED" in await typed(grpcurl(block), target)


async def test_three_values_are_all_that_a_payment_at_paypal_needs(tmp_path: Path) -> None:
    """An address and an app's credentials; the payer approves by the link, and one more call takes the money."""
    first, then = blocks("paypal")
    merchant = Merchant()
    values: dict[str, Any] = {"client_id": merchant.client_id, "api_key": merchant.client_secret}
    assert len(EXPORT.findall(first)) == 1 + len(values)
    async with (
        paypal(PayPalSettings(tmp_path / "paypal", port=0)) as url,
        serving(tmp_path, exported(first, url, **values)) as target,
        aiohttp.ClientSession() as payer,
    ):
        told = await typed(grpcurl(first), target)
        assert "PAYMENT_STATE_REQUIRES_ACTION" in told
        link, payment_id = re.search(r'"redirect_url": "([^"]+)"', told), re.search(r"pay_[0-9a-f]{32}", told)
        assert link is not None, told
        assert payment_id is not None
        async with payer.post(link.group(1), json={"outcome": "approve"}) as approved:
            assert approved.status == 200
        synced = await typed(grpcurl(then).replace("pay_...", payment_id.group(0)), target)
        assert "PAYMENT_STATE_CAPTURED" in synced
