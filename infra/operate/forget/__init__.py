"""Forget a ride: delete what the bucket holds of it."""
