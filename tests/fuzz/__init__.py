"""Requests that nobody should send, each made from a seed and its number: `make fuzz REQUESTS=1000000`."""
