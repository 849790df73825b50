"""A simulation in memory of producer, streams, function, bucket and clock."""
