"""Where tests keep their files: in memory where there is room, since a thousand small databases wait for a disk.

Nothing is lost by it that a test could see. Databases keep their settings (fsync, FULL), processes are killed all the
same, and what a killed process wrote is the kernel's. TMPDIR overrules it, and `make torture` and `make bench` use
the disk.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
FREE_BYTES_MIN = 6 << 30
PREFIX = "obol-tests-"


def move_in() -> None:
    """Make a directory of this process's own the place for temporary files until it ends, where there is room for it.

    Processes that this one starts, the workers of pytest-xdist too, use it with it. What a killed run left is removed.
    """
    if "TMPDIR" in os.environ or not _has_room():
        return
    for left in MEMORY.glob(f"{PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(PREFIX)).exists():
            shutil.rmtree(left, ignore_errors=True)
    place = MEMORY / f"{PREFIX}{os.getpid()}"
    place.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(place)
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, place, ignore_errors=True)


def _has_room() -> bool:
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        return False
    available = next((line for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")), "x 0 kB")
    return min(shutil.disk_usage(MEMORY).free, int(available.split()[1]) << 10) >= FREE_BYTES_MIN


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
