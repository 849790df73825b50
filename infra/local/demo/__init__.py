"""`ridecast demo`: real rides through the whole stack on this machine."""
