"""The deployable function: Kinesis records in, predictions out. Stands alone: imports nothing above it."""
