"""Generate the Python of the contract, with its types, beside the .proto files.

    python proto/generate.py           bring the generated files up to date; a second run changes nothing
    python proto/generate.py --check   change nothing; exit 1 and name what differs from a fresh generation

A file without a service gets no `_pb2_grpc`. A generated file whose .proto is gone is removed.
"""

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
PLUGINS = Path(sys.executable).parent


def main(arguments: list[str]) -> int:
    """Generate into an empty directory and compare with the tree; unless `--check`, write what differs."""
    check = arguments == ["--check"]
    with tempfile.TemporaryDirectory() as directory:
        fresh_root = Path(directory)
        generate(fresh_root)
        fresh = contents(fresh_root)
    present = contents(ROOT)
    stale = sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))
    for name in stale:
        print(f"{'differs' if check else 'written' if name in fresh else 'removed'}: proto/{name}")
        if not check:
            write(ROOT / name, fresh.get(name))
    if check and stale:
        print("the generated code is not what the .proto files say: run `make proto`", file=sys.stderr)
        return 1
    return 0


def generate(out: Path) -> None:
    """Run protoc with the four generators over every .proto file under obol/."""
    sources = sorted((ROOT / "obol").rglob("*.proto"))
    with_service = [path for path in sources if re.search(r"^service\s", path.read_text(), re.MULTILINE)]
    if sources:
        compile_with([f"--python_out={out}", f"--mypy_out=quiet:{out}"], sources)
    if with_service:
        compile_with([f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"], with_service)


def compile_with(outputs: list[str], sources: list[Path]) -> None:
    """One run of protoc; its own messages say what is wrong, with file and line."""
    plugins = [f"--plugin={name}={PLUGINS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    well_known = files("grpc_tools") / "_proto"
    command = ["protoc", f"-I{ROOT}", f"-I{well_known}", *plugins, *outputs]
    if protoc.main([*command, *(str(path.relative_to(ROOT)) for path in sources)]) != 0:
        raise SystemExit("protoc failed")


def contents(root: Path) -> dict[str, bytes]:
    """Every generated file under obol/, by its path from `root`."""
    found = (path for pattern in GENERATED for path in (root / "obol").rglob(pattern))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def write(path: Path, content: bytes | None) -> None:
    """Put the content there, or remove the file where there is none."""
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
