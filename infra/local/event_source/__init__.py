"""Lambda's event source mapping for Kinesis, on this machine."""
