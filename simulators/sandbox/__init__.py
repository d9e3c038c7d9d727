"""The sandbox: a provider of its own, with an HTTP API, webhooks, a customer page, and controls for what goes wrong.

`server.serve(SandboxSettings(...))` runs it until a signal; `server.running(settings)` runs it inside a test.
"""
