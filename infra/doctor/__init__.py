"""`ridecast doctor`: a deployed stack looked at from outside; facts are gathered first, and judged by pure checks."""
