"""The kit makes a provider that every check accepts, and that conformance refuses with a list of what is missing."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.__main__ import FILES, Refused, scaffold
from tests.house.rules import RULES, Tree

ROOT = Path(__file__).resolve().parents[2]
NAME = "adyen"
TESTS_OF_ONE = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conformance.reporting", "-n", "0"]


def run(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of Python in the copy."""
    return subprocess.run([sys.executable, *arguments], cwd=copy, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the tree, with a new provider."""
    target = tmp_path_factory.mktemp("kit") / "tree"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    made = run(target, "-m", "kit", NAME)
    assert made.returncode == 0, made.stderr
    assert f"make conformance ARGS='-k {NAME}'" in made.stdout
    yield target
    shutil.rmtree(target)


def files() -> list[str]:
    """What was written, and what was changed."""
    return [*(path.format(name=NAME) for path in FILES.values()), "providers/registry.py", "providers/callbacks.py"]


def test_it_is_in_the_houses_style(copy: Path) -> None:
    """Linted and formatted as everything else."""
    for command in (["check"], ["format", "--check"]):
        done = run(copy, "-m", "ruff", *command, *files())
        assert done.returncode == 0, done.stdout


def test_it_breaks_no_rule_of_the_house(copy: Path) -> None:
    """Neither its size, nor its names, nor its imports, nor its exceptions."""
    tree: Tree = {name: (copy / name).read_text() for name in files()}
    rules = (
        *("modules_read_in_one_sitting", "names_come_from_the_field", "provider_packages_load_nothing"),
        *("providers_stand_alone", "exceptions_name_code_and_reason", "secrets_stay_out", "files_name_no_machine"),
        *("nothing_is_left_for_later", "only_programs_for_people_print"),
    )
    broken = [line for rule in rules for line in RULES[rule](tree)]
    assert broken == []
    assert f'"providers.{NAME}"' in (copy / "pyproject.toml").read_text().partition('id = "providers"')[2]


def test_its_types_hold(copy: Path, tmp_path: Path) -> None:
    """Under the strict settings of the tree."""
    checked = [name for name in files() if NAME in name]
    done = run(copy, "-m", "mypy", "--cache-dir", str(tmp_path), *checked)
    assert done.returncode == 0, done.stdout


def test_conformance_refuses_it_and_says_what_is_missing(copy: Path) -> None:
    """A sentence for each thing, in one list, and where a test met it; the run fails, and its last line counts."""
    battery = "tests/conformance/battery"
    promise = f"{battery}/test_payments.py::test_an_automatic_payment_is_captured_once[{NAME}]"
    done = run(copy, *TESTS_OF_ONE, "-k", NAME, "--tb=short", f"{battery}/test_completeness.py", promise)
    assert done.returncode == 1
    met, _, listed = done.stdout.rpartition(f"{NAME} lacks:\n")
    for name in ("prepare_create", "prepare_capture", "prepare_refund", "fetch", "lookup", "interpret", "effects"):
        assert re.search(rf"^  {name} is not implemented: [a-z].*\.$", listed, re.MULTILINE), (name, done.stdout)
    assert "NotImplementedError: prepare_create is not implemented: build the exact request" in met
    assert done.stdout.splitlines()[-1] == f"conformance: {NAME} passed=1 failed=2"


@pytest.mark.parametrize("name", ["", "Adyen", "a", "adyen-eu", "../x", "9pay", "x" * 40])
def test_a_name_that_is_no_package_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is written."""
    with pytest.raises(Refused, match="NAME"):
        scaffold(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_stands_is_overwritten(copy: Path) -> None:
    """A second time, and a provider that is built in."""
    for name in (NAME, "sandbox"):
        again = run(copy, "-m", "kit", name)
        assert again.returncode == 2
        assert "there already" in again.stderr
