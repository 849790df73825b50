"""A stack's whole life on this machine, by the real sam."""
