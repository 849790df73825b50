"""Rejects and failed batches: find, show and redrive them."""
