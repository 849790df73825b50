"""`ridecast doctor`: read a deployed stack, check it, and report problems with remedies.

A probe reads AWS and returns facts; it raises ClientError if AWS refuses. A check makes findings of facts and is pure.
Each file has the probes and checks of one subject.
"""
