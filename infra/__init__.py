"""Four rooms, one direction: cli > local > operate > stack."""
