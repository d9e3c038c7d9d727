"""Defects of the gateway's own, whoever met them: a call that ended INTERNAL or UNKNOWN, an exception in a log."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import grpc

from obol.client import GatewayError
from tests.torture.processes import Process

DEFECTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
BY_THE_WIRE = "RST_STREAM"
"""A proxy ends a call INTERNAL, in gRPC's own words, where the gateway was killed after its headers."""
SHOWN_CHARACTERS_MAX = 600
SHOWN_MAX = 5


def is_defect(error: GatewayError) -> bool:
    """Whether an error says that the gateway is broken, and not that anything around it is."""
    return error.code in DEFECTS and BY_THE_WIRE not in error.message


def judge_logs(processes: Iterable[Process]) -> Iterator[str]:
    """No process logged an exception that nobody foresaw."""
    for process in processes:
        events: Counter[str] = Counter()
        shown: dict[str, str] = {}
        for line in process.log.read_text(errors="replace").splitlines() if process.log.exists() else ():
            if '"exception"' not in line and not line.startswith("Traceback"):
                continue
            try:
                said = json.loads(line)
            except ValueError:
                said = {"event": "a bare traceback", "exception": line}
            events[said["event"]] += 1
            shown.setdefault(said["event"], str(said.get("exception", ""))[-SHOWN_CHARACTERS_MAX:])
        for event, count in events.most_common(SHOWN_MAX):
            yield f"defect {process.name}: {event!r} {count} times, such as: {shown[event]}; see {process.log}"
