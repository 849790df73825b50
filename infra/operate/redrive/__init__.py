"""Rejects and failed batches: find, show and redrive them. Every function raises `BucketError` if S3 fails."""
