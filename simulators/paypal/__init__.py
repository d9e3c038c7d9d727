"""An imitation of PayPal: OAuth, Orders v2, Payments v2, disputes to be read, webhook events, and the payer's page.

`server.serve(PayPalSettings(...))` runs it until a signal; `server.running(settings)` runs it inside a test. It behaves
as PayPal's documents say, and its answers are validated against PayPal's own OpenAPI documents wherever tests use it.
"""
