"""The whole gateway in one process, over real sockets: gRPC in, HTTP to the sandbox, a real database."""
