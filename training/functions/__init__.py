"""Entry points of the functions that run this package; thin, no rules."""
