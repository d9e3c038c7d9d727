"""Stripe's imitation: the part of its API that the gateway uses, its test payment methods, webhooks, and controls.

`server.serve(StripeSettings(...))` runs it until a signal; `server.running(settings)` runs it inside a test. It behaves
as Stripe's documents say, at API version 2026-10-28; what is beyond them (faults, the effect log) is under /control.
"""
