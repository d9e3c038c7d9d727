"""`make new-provider NAME=adyen`: an adapter, its mapping table, a simulator's stub, a place in the conformance suite.

What it writes passes every check of style, types and house, and fails conformance with a sentence for each thing that
is missing. Nothing is overwritten.
"""

import re
import subprocess
import sys
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]{1,30}\Z")

FILES = {
    "provider_init.py": "providers/{name}/__init__.py",
    "adapter.py": "providers/{name}/adapter.py",
    "callbacks.py": "providers/{name}/callbacks.py",
    "capabilities.py": "providers/{name}/capabilities.py",
    "mapping.py": "providers/{name}/mapping.py",
    "simulator_init.py": "simulators/{name}/__init__.py",
    "simulator.py": "simulators/{name}/server.py",
    "driver.py": "tests/conformance/driver_{name}.py",
    "provider.md": "docs/{name}.md",
}
"""Template to the file that it becomes."""


class Refused(Exception):
    """The provider cannot be made; the message says what to do."""


def scaffold(root: Path, name: str) -> list[Path]:
    """Write the skeleton of provider `name` into the tree at `root`, register it; its files. Raises Refused."""
    if not NAME.match(name):
        raise Refused(f"NAME={name!r}: take 2 to 31 lower case letters and digits, a letter first, such as NAME=adyen")
    targets = {template: root / path.format(name=name) for template, path in FILES.items()}
    standing = [str(path.relative_to(root)) for path in targets.values() if path.exists()]
    if standing:
        raise Refused(f"{', '.join(standing)}: there already; remove it, or take another NAME")
    for template, path in targets.items():
        text = (TEMPLATES / f"{template}.txt").read_text()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@name@", name).replace("@Name@", name.title()))
    changed = [
        _inserted(root / "providers/registry.py", name, f'"{name}": "providers.{name}.adapter:build", '),
        _inserted(root / "providers/callbacks.py", name, f'"{name}": "providers.{name}.callbacks:build_verifier", '),
    ]
    _independent(root / "pyproject.toml", name)
    _formatted([path for path in (*targets.values(), *changed) if path.suffix == ".py"])
    return list(targets.values())


def _inserted(path: Path, name: str, entry: str) -> Path:
    """Put an entry into the module's table BUILT_IN."""
    text = path.read_text()
    found = re.search(r"^BUILT_IN\b.*?=.*?\{", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise Refused(f"{path}: has no table BUILT_IN to put {name} into; do it by hand")
    path.write_text(text[: found.end()] + entry + text[found.end() :])
    return path


def _independent(path: Path, name: str) -> None:
    """Tell import-linter that the provider imports no other one, and no other one's SDK."""
    for contract, listed in (("providers", "modules"), ("sdk", "source_modules")):
        text = path.read_text()
        found = re.search(rf'^id = "{contract}"$.*?^{listed} = \[', text, re.MULTILINE | re.DOTALL)
        if found is None:
            raise Refused(f'{path}: has no import contract "{contract}" to put {name} into; do it by hand')
        path.write_text(f'{text[: found.end()]}"providers.{name}", {text[found.end() :]}')


def _formatted(paths: list[Path]) -> None:
    names = [str(path) for path in paths]
    subprocess.run([sys.executable, "-m", "ruff", "check", "--quiet", "--fix", "--select", "I", *names], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", *names], check=True)


def main(arguments: list[str]) -> int:
    """Make the provider that the one argument names, in the working directory."""
    if len(arguments) != 1:
        print("usage: make new-provider NAME=adyen", file=sys.stderr)
        return 2
    (name,) = arguments
    try:
        written = scaffold(Path.cwd(), name)
    except Refused as refused:
        print(f"new-provider: {refused}", file=sys.stderr)
        return 2
    for path in written:
        print(f"written: {path.relative_to(Path.cwd())}")
    print(f"next: make conformance ARGS='-k {name}' says what is missing; docs/providers.md says how")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
