"""What a caller installs, `obol-contracts`, is complete by itself."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROTO = Path(__file__).resolve().parents[2] / "proto"
IMPORT = """
import importlib, sys
for name in sys.argv[2:]:
    assert importlib.import_module(name).__file__.startswith(sys.argv[1]), name
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from a copy of proto/ and unpacked."""
    source, built, unpacked = (tmp_path_factory.mktemp(name) for name in ("source", "built", "unpacked"))
    leftovers = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(PROTO, source, ignore=leftovers, dirs_exist_ok=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(built), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = built.glob("*.whl")
    zipfile.ZipFile(archive).extractall(unpacked)
    return unpacked


def test_the_wheel_holds_the_contract_and_its_types(wheel: Path) -> None:
    """Every .proto, stub and generated module of the tree is in the wheel, and it says that it is typed."""
    kinds = ("*.proto", "*.py", "*.pyi", "py.typed")
    committed = {path.relative_to(PROTO) for kind in kinds for path in (PROTO / "obol").rglob(kind)}
    assert {path for path in committed if not (wheel / path).is_file()} == set()
    assert (wheel / "obol/py.typed").is_file()


def test_the_generated_code_imports_from_the_wheel(wheel: Path) -> None:
    """Each generated module loads from the unpacked wheel, with no path rewritten."""
    paths = [path.relative_to(wheel).with_suffix("") for path in (wheel / "obol/v1").glob("*_pb2*.py")]
    command = [sys.executable, "-c", IMPORT, str(wheel), *(".".join(path.parts) for path in paths)]
    subprocess.run(command, check=True, cwd=wheel, env={**os.environ, "PYTHONPATH": str(wheel)})
