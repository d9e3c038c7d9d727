"""Obol, the payment gateway: domain, use cases, gRPC edge and the command line."""
