"""What could not be processed: rejects and failures, as they lie in the bucket, shown and sent back."""
