"""Benches: what the engine and the handler cost, beside what people would use instead, in one run."""
