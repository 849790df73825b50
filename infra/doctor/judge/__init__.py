"""What facts mean: each function takes all that is known of a stack, and yields findings. Pure."""
