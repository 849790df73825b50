"""The embedded world in memory: both streams, bucket, function and clock, with faults at will."""
