"""A deployed stack tried with real events: golden rides of the model in its channel go in, their predictions come out.

The rides have ids of their own, ``smoke-<run>-<number>``: whoever reads the predictions can tell them from a person's.
"""
