"""Where the server listens, and whether it may: loopback or a Unix socket, and nobody else's port.

Callers are not authenticated: whoever reaches the port can move money. So a public address is refused. Knows sockets,
and no gRPC: a supervisor can use it before it forks.
"""

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

UNIX_PATH_BYTES_MAX = 107
PROBE_S = 1.0


class AddressRefused(ValueError):
    """The server may not, or cannot, listen there. One line, which names the setting and what to do."""


class AddressTaken(AddressRefused):
    """Somebody listens there already."""


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, `host` being an IP literal and `port` 0 for a free one; or a Unix socket, where one is set.

    Make one by `loopback` or `unix`, which check it.
    """

    host: str = ""
    port: int = 0
    unix_socket: Path | None = None

    @property
    def target(self) -> str:
        """As gRPC names it."""
        if self.unix_socket is not None:
            return f"unix:{self.unix_socket}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.target


def loopback(host: str, port: int, setting: str) -> Address:
    """The address for `host`, resolved once. Raises AddressRefused, naming `setting`, unless all of it is loopback."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"{setting}: {host!r} is no address of this machine: {error}") from None
    addresses = [str(entry[4][0]) for entry in found]
    public = [address for address in addresses if not ipaddress.ip_address(address.partition("%")[0]).is_loopback]
    if public:
        raise AddressRefused(
            f"{setting}: {host} is a public address ({public[0]}), and callers are not authenticated: "
            "whoever reaches it could move money. Set it to 127.0.0.1 or ::1, or listen on a Unix socket"
        )
    return Address(host=addresses[0], port=port)


def unix(path: Path, setting: str) -> Address:
    """The address of a Unix socket. Raises AddressRefused, naming `setting`, for a path that cannot be one."""
    if len(str(path).encode()) > UNIX_PATH_BYTES_MAX:
        raise AddressRefused(f"{setting}: {path} is longer than the {UNIX_PATH_BYTES_MAX} bytes of a socket's path")
    if not path.parent.is_dir():
        raise AddressRefused(f"{setting}: the directory {path.parent} does not exist")
    if path.exists() and not path.is_socket():
        raise AddressRefused(f"{setting}: {path} exists and is no socket")
    return Address(unix_socket=path)


def check_free(address: Address, setting: str) -> None:
    """Raise AddressTaken where somebody listens at `address` already.

    Asked exclusively: a server that allows SO_REUSEPORT would otherwise join the port of another one in silence, and
    gRPC removes a Unix socket that another server still listens on.
    """
    if address.unix_socket is not None:
        if _answers(address.unix_socket):
            raise AddressTaken(f"{setting}: {address} is in use: another process listens there")
        return
    with closing(_tcp(address)) as probe:
        _bind(probe, address, setting)


@contextmanager
def held(address: Address, setting: str) -> Iterator[Address]:
    """Hold a TCP port for workers that share it by SO_REUSEPORT; yields the address with the port that it got.

    The exclusive probe comes first. In between, another user's process cannot join: Linux lets a port be shared by one
    user only.
    """
    check_free(address, setting)
    with closing(_tcp(address)) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(holder, address, setting)
        # It is bound now, past what lingered. From here on a plain socket must not get in beside it.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        yield Address(host=address.host, port=holder.getsockname()[1])


def _tcp(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    # Connections that are still in TIME_WAIT must not count as somebody who listens.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return probe


def _bind(probe: socket.socket, address: Address, setting: str) -> None:
    try:
        probe.bind((address.host, address.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            mend = "stop the process that listens there, or choose another port"
            raise AddressTaken(f"{setting}: port {address.port} is in use: {mend}") from None
        if error.errno == errno.EACCES:
            raise AddressRefused(f"{setting}: port {address.port} needs privileges: choose one above 1023") from None
        raise AddressRefused(f"{setting}: cannot listen at {address}: {error.strerror}") from None


def _answers(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A full backlog or no permission: somebody is there.
            return True
        return True
