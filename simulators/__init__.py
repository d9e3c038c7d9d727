"""The other side of the wire: HTTP imitations of payment providers. They import nothing of ours.

What every imitation shares is here (the journal, faults, damaged answers, webhook delivery); each provider
has a package.
"""
