"""Where the server may listen."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.rpc.address import Address, AddressRefused, AddressTaken, check_free, held, loopback, unix


@pytest.fixture(params=[False, True], ids=["alone", "reuseport"])
def taken(request: pytest.FixtureRequest) -> Iterator[Address]:
    """An address at which somebody listens, sharing the port or not."""
    with closing(socket.socket()) as other:
        if request.param:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield Address("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "target"), [("127.0.0.1", "127.0.0.1:1"), ("127.8.8.8", "127.8.8.8:1"), ("::1", "[::1]:1")]
)
def test_loopback_is_served(host: str, target: str) -> None:
    """Every loopback address, of both families, as gRPC names it."""
    assert loopback(host, 1, "s").target == target


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "192.0.2.1", "2001:db8::1", "::ffff:10.1.2.3"])  # noqa: S104  refused, that is the point
def test_a_public_address_is_refused(host: str) -> None:
    """The line names the setting, and why."""
    with pytest.raises(AddressRefused, match=r"^grpc.host: .*not authenticated"):
        loopback(host, 1, "grpc.host")


@pytest.mark.parametrize("host", ["", "no such host", "\N{SNOWMAN}.invalid", "a" * 300, "127.0.0.1:1"])
def test_a_host_that_is_none_is_one_line(host: str) -> None:
    """What cannot be resolved is refused by the setting's name, not by a traceback."""
    with pytest.raises(AddressRefused, match=r"^grpc.host: "):
        loopback(host, 1, "grpc.host")


def test_a_port_in_use_is_seen_however_it_is_shared(taken: Address) -> None:
    """The probe is exclusive, so a server that shares its port is not joined in silence."""
    with pytest.raises(AddressTaken, match=rf"^grpc.port: port {taken.port} is in use"):
        check_free(taken, "grpc.port")
    with pytest.raises(AddressTaken), held(taken, "grpc.port"):
        pass


def test_a_held_port_is_the_workers_and_nobody_elses() -> None:
    """While it is held, a socket with SO_REUSEPORT may join, and a plain one may not; afterwards it is free."""
    with held(Address("127.0.0.1", 0), "grpc.port") as address:
        assert address.port
        with closing(socket.socket()) as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind((address.host, address.port))
        with pytest.raises(AddressTaken):
            check_free(address, "grpc.port")
    check_free(address, "grpc.port")


def test_a_port_whose_connections_linger_is_free() -> None:
    """TIME_WAIT after a restart is nobody who listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            server.accept()[0].close()
            client.recv(1)
    check_free(Address("127.0.0.1", port), "grpc.port")
    with held(Address("127.0.0.1", port), "grpc.port") as address, pytest.raises(AddressTaken):
        check_free(address, "grpc.port")


def test_a_unix_socket_is_taken_only_by_somebody_who_listens(tmp_path: Path) -> None:
    """gRPC removes a socket file before it binds: a living server's must be left alone, a dead one's may go."""
    path = tmp_path / "obol.sock"
    check_free(unix(path, "s"), "s")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(AddressTaken):
            check_free(unix(path, "s"), "s")
    check_free(unix(path, "s"), "s")


def test_a_path_that_cannot_be_a_socket_is_refused(tmp_path: Path) -> None:
    """A file in its place, a directory that is not there, and a path too long for the kernel."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "none" / "obol.sock", tmp_path / ("x" * 200)):
        with pytest.raises(AddressRefused, match=r"^grpc.unix_socket: "):
            unix(path, "grpc.unix_socket")
