"""The kit makes a provider that every check accepts, and that conformance refuses with a list of what is missing."""

import os
import re
import shlex
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
LINT = ("ruff check .", "ruff format --check .", "lint-imports")
"""What `make check` says of style and imports, as it says it."""
SECTIONS = ("Setting it up", "Requests", "Answers", "What is read", "Callbacks", "Finding what was lost", "Not yet")


def run(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of Python in the copy."""
    return subprocess.run([sys.executable, *arguments], cwd=copy, capture_output=True, text=True, check=False)


def make(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run make in the copy, with the packages that there are: nothing is set up. It is no part of a make around it."""
    command = ["make", "--old-file=dev", *arguments, f"VENV={sys.prefix}"]
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)


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
    made = make(target, "new-provider", f"NAME={NAME}")
    assert made.returncode == 0, made.stderr
    assert f"make conformance ARGS='-k {NAME}'" in made.stdout
    yield target
    shutil.rmtree(target)


def files() -> list[str]:
    """What was written, and what was changed."""
    return [*(path.format(name=NAME) for path in FILES.values()), "providers/registry.py", "providers/callbacks.py"]


def test_it_passes_lint_as_make_check_has_it(copy: Path) -> None:
    """Linted, formatted and imported as everything else, by the target's own commands over the whole tree."""
    programs = f"{sys.prefix}/bin/"
    recipe = [line.removeprefix(programs) for line in make(copy, "--dry-run", "check").stdout.splitlines()]
    assert set(LINT) <= set(recipe)
    for command in LINT:
        program, *arguments = shlex.split(command)
        done = subprocess.run([programs + program, *arguments], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout)


def test_its_mapping_table_is_there_to_be_filled_in(copy: Path) -> None:
    """Every section that Stripe's has, a row for each command, and a mark wherever a word of the provider's belongs."""
    told = (copy / f"docs/{NAME}.md").read_text()
    assert tuple(re.findall(r"^## (.*)$", told, re.MULTILINE)) == SECTIONS
    for command in ("Create", "Confirm", "Capture", "Cancel", "Refund"):
        assert f"| {command}Payment | ? |" in told
    assert "@" not in told


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
    for contract in ("providers", "sdk"):
        listed = (copy / "pyproject.toml").read_text().partition(f'id = "{contract}"')[2].partition("[[tool")[0]
        assert f'"providers.{NAME}"' in listed


def test_its_types_hold(copy: Path, tmp_path: Path) -> None:
    """Under the strict settings of the tree."""
    checked = [name for name in files() if NAME in name and name.endswith(".py")]
    done = run(copy, "-m", "mypy", "--cache-dir", str(tmp_path), *checked)
    assert done.returncode == 0, done.stdout


def test_conformance_refuses_it_and_says_what_is_missing(copy: Path) -> None:
    """A sentence for each thing, in one list, and where a test met it; the run fails, and its last line counts."""
    few = "nothing_is_left_unfinished or what_is_offered_as_data or an_automatic_payment_is_captured_once"
    done = make(copy, "conformance", f"ARGS=-k '{NAME} and ({few})' -p no:cacheprovider -n 0 --tb=short")
    assert done.returncode == 2
    met, _, listed = done.stdout.rpartition(f"{NAME} lacks:\n")
    assert f"mapping_table is not implemented: fill in docs/{NAME}.md" in listed
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
