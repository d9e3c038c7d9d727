"""A provider from another distribution: built, installed and used without a change to this tree."""

import subprocess
import sys
from pathlib import Path

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "obol-tiny"
version = "1.0"

[project.entry-points."obol.providers"]
tiny = "obol_tiny.adapter:build"

[project.entry-points."obol.callback_verifiers"]
tiny = "obol_tiny.callbacks:build_verifier"

[tool.setuptools]
packages = ["obol_tiny"]
"""

ADAPTER = """
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Absent, Capabilities, NotSent

ABLE = Capabilities("tiny", frozenset({"EUR"}), frozenset(CaptureMethod), frozenset(ConfirmationMethod),
                    False, False, False, False, 3600, True, 60)

class TinyAdapter:
    def __init__(self, settings, hooks):
        self.account_id = settings.account_id
    capabilities = ABLE
    async def execute(self, prepared, *, send_before, timeout_s):
        return NotSent("tiny sends nothing")
    async def fetch(self, provider_payment_id, *, timeout_s):
        return Absent(consistent=True)
    async def lookup(self, payment_id, *, timeout_s):
        return Absent(consistent=True)
    async def close(self):
        pass

def build(settings, hooks):
    return TinyAdapter(settings, hooks)
"""

CALLBACKS = """
from providers.callbacks import CallbackRejected, Rejection, VerifiedEvent

class TinyVerifier:
    async def verify(self, body, headers, *, now_s):
        if body != b"genuine":
            raise CallbackRejected(Rejection.FORGED, "not genuine")
        return VerifiedEvent("evt_1", "tiny.done", True)
    async def close(self):
        pass

def build_verifier(settings):
    return TinyVerifier()
"""

USE = """
import asyncio, os, sys
os.environ["OBOL_PROVIDERS"] = '{"acct_tiny": {"provider": "tiny", "base_url": "https://tiny.example", "api_key": "k"}}'
from gateway.config import load_settings
from gateway.domain.providers import ProviderAdapter, TakesPayments
from gateway.main import accounts_settings
from providers.callbacks import CallbackSettings, build_verifier
from providers.registry import build_accounts, provider_kinds

async def main():
    assert "tiny" in provider_kinds(), provider_kinds()
    accounts = build_accounts(accounts_settings(load_settings()))
    account = accounts.route(provider="tiny", account_id="")
    assert account is not None and account.provider == "tiny"
    assert isinstance(account.adapter, ProviderAdapter) and not isinstance(account.adapter, TakesPayments)
    assert account.adapter.capabilities.currencies == {"EUR"}
    event = await build_verifier(CallbackSettings("tiny", "acct_tiny", ())).verify(b"genuine", {}, now_s=0.0)
    assert event.event_id == "evt_1"
    await accounts.close()
    print("used", os.path.dirname(sys.modules["obol_tiny.adapter"].__file__))

asyncio.run(main())
"""


def test_a_distribution_with_entry_points_is_a_provider(tmp_path: Path) -> None:
    """Its wheel is built, unpacked beside everything else, configured by name, and both of its sides are loaded."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    (source / "obol_tiny").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "obol_tiny" / "__init__.py").touch()
    (source / "obol_tiny" / "adapter.py").write_text(ADAPTER)
    (source / "obol_tiny" / "callbacks.py").write_text(CALLBACKS)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    # A wheel is a zip: unpacked on the path it is what pip would have installed.
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(installed)], check=True)
    used = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    assert used.stdout == f"used {installed / 'obol_tiny'}\n"
