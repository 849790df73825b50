"""A stack on this machine that stays until it is stopped, and keeps its state."""
