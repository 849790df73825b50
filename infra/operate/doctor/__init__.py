"""`ridecast doctor`: read a deployed stack, check it, and report problems with remedies."""
