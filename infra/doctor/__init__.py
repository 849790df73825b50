"""`ridecast doctor`: a deployed stack from outside. `gather` looks at it, `check` judges what it saw, `show` says so.

`look/` asks AWS and returns `facts`; `judge/` is pure, and turns them into findings.
"""
