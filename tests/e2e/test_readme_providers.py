"""The README's way to a test payment, for each provider: what it says to set is enough, and what it says to type works.

Gateway and imitation are in this process, with the settings read from the environment as `obol serve` reads them; what
is put in place of the README's text is the provider's address, the gateway's, and its dots.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.cli.providers import check
from gateway.config import load_settings
from gateway.demo.installation import HOST, free_ports
from gateway.main import serving
from gateway.rpc.address import loopback
from simulators.paypal.server import running as paypal
from simulators.paypal.settings import Merchant, PayPalSettings
from simulators.stripe.server import running as stripe
from simulators.stripe.settings import StripeSettings

README = (Path(__file__).parents[2] / "README.md").read_text()
TOOLS = Path(sys.executable).parent
COMMAND_S_MAX = 30
EXPORT = re.compile(r"^export (OBOL_PROVIDERS__\w+)=(\S+)", re.MULTILINE)


def blocks(provider: str) -> list[str]:
    """What the README says to type."""
    return re.findall(rf"<!-- provider: {provider} -->\n```sh\n(.*?)```", README, re.DOTALL)


def exported(block: str, base_url: str, **values: str) -> Mapping[str, str]:
    """The variables that a block sets, with the imitation's address, and these values for their dots."""
    told: dict[str, str] = dict(EXPORT.findall(block))
    assert told, block
    account = next(iter(told)).split("__")[1]
    known = {name: values.get(name.rpartition("__")[2].lower(), value) for name, value in told.items()}
    return {**known, f"OBOL_PROVIDERS__{account}__BASE_URL": base_url}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A directory without settings, and an environment that says nothing of Obol but where it keeps what it writes."""
    monkeypatch.chdir(tmp_path)
    for name in [each for each in os.environ if each.startswith("OBOL_")]:
        monkeypatch.delenv(name)
    for name, value in {"DATA_DIR": str(tmp_path), "METRICS__ENABLED": "false"}.items():
        monkeypatch.setenv(f"OBOL_{name}", value)
    return monkeypatch


@asynccontextmanager
async def gateway(bare: pytest.MonkeyPatch, told: Mapping[str, str]) -> AsyncIterator[str]:
    """A gateway with these variables; its gRPC address."""
    for name, value in told.items():
        bare.setenv(name, value)
    (port,) = free_ports(1)
    async with serving(load_settings(), loopback(HOST, port, "grpc.port")):
        yield f"{HOST}:{port}"


async def typed(block: str, target: str) -> str:
    """What the call of a block prints, asked of this gateway."""
    there = block[block.index("grpcurl ") :].replace("127.0.0.1:50051", target)
    environment = {"PATH": f"{TOOLS}:/usr/bin:/bin"}

    def run() -> "subprocess.CompletedProcess[str]":
        command = ["bash", "-c", there]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=COMMAND_S_MAX, env=environment
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_key_is_all_that_a_payment_at_stripe_needs(
    bare: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One variable: the check knows the account, and a payment is captured."""
    (block,) = blocks("stripe")
    assert EXPORT.findall(block) == [("OBOL_PROVIDERS__STRIPE__API_KEY", "sk_test_...")]
    async with (
        stripe(StripeSettings(tmp_path / "stripe", port=0)) as url,
        gateway(bare, exported(block, url, api_key="sk_test_simulated")) as target,
    ):
        await asyncio.to_thread(check, load_settings())
        assert "stripe stripe: ok" in capsys.readouterr().out
        assert "PAYMENT_STATE_CAPTURED" in await typed(block, target)


async def test_three_values_are_all_that_a_payment_at_paypal_needs(
    bare: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address and an app's credentials; the payer approves by the link, and one more call takes the money."""
    first, then = blocks("paypal")
    merchant = Merchant()
    values = {"client_id": merchant.client_id, "api_key": merchant.client_secret}
    assert len(EXPORT.findall(first)) == 1 + len(values)
    async with (
        paypal(PayPalSettings(tmp_path / "paypal", port=0)) as url,
        gateway(bare, exported(first, url, **values)) as target,
        aiohttp.ClientSession() as payer,
    ):
        await asyncio.to_thread(check, load_settings())
        assert "paypal paypal: ok      credentials" in capsys.readouterr().out
        told = await typed(first, target)
        assert "PAYMENT_STATE_REQUIRES_ACTION" in told
        link, payment_id = re.search(r'"redirect_url": "([^"]+)"', told), re.search(r"pay_[0-9a-f]{32}", told)
        assert link is not None, told
        assert payment_id is not None
        async with payer.post(link.group(1), json={"outcome": "approve"}) as approved:
            assert approved.status == 200
        synced = await typed(then.replace("pay_...", payment_id.group(0)), target)
        assert "PAYMENT_STATE_CAPTURED" in synced
