"""Larger stages for tests: stacks, roles, worlds, runtimes."""
