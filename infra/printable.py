"""Text that no terminal obeys: what a bucket, a stream or a manifest holds may be anybody's."""


def printable(text: str) -> str:
    r"""Escapes what a terminal would obey or not show; line ends stay.

    >>> print(printable("a\tb\x1b[31m ü\nc"))
    a\tb\x1b[31m ü
    c
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
