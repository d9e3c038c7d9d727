"""Every driver that there is: those of `drivers`, and the DRIVEN of each module `driver_<provider>` beside it."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

import tests.conformance
from tests.conformance.driver import Driven
from tests.conformance.drivers import DRIVERS

PREFIX = "driver_"


def _found() -> dict[str, Driven]:
    names = [each.name for each in pkgutil.iter_modules(tests.conformance.__path__) if each.name.startswith(PREFIX)]
    modules = {name.removeprefix(PREFIX): importlib.import_module(f"tests.conformance.{name}") for name in names}
    return {provider: module.DRIVEN for provider, module in modules.items()}


ALL_DRIVERS: Mapping[str, Driven] = MappingProxyType({**DRIVERS, **_found()})


def unfinished(provider: str) -> list[str]:
    """What the provider's adapter and driver say is missing, a sentence each; none where they say nothing."""
    told: list[str] = []
    for module_name in (f"providers.{provider}.adapter", f"tests.conformance.{PREFIX}{provider}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            continue
        missing = getattr(module, "UNFINISHED", {})
        told += [f"{name} is not implemented: {sentence}" for name, sentence in missing.items()]
    return told
