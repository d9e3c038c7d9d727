"""The demo: a whole installation on this machine, a billing service that uses it, and the books compared at the end."""

from gateway.demo.tour import run

__all__ = ["run"]
