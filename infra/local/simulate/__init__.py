"""`ridecast simulate`: months of rides through the whole stack on this machine, in virtual time."""
