"""Streams, bucket, function and clock in memory, with faults on request."""
