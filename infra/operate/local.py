"""The place of the stack that `ridecast up` runs, in the commands that messages name."""

import re

_PLACE = re.compile(r"--(?:stack|bucket) (?!file:)[^\s`]+")


def in_local(text: str) -> str:
    """Return a message whose commands name the local stack in place of its name or bucket.

    >>> in_local("`ridecast models restore --channel stable --bucket ridecast-local`")
    '`ridecast models restore --channel stable --local`'
    """
    return _PLACE.sub("--local", text)
