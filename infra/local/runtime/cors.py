"""The headers that API Gateway adds to answers for web pages of other origins (CORS), as in template.yaml."""

from collections.abc import Collection, Mapping

ALLOW_METHODS = ("GET", "HEAD", "POST")
ALLOW_HEADERS = ("authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token")
EXPOSE_HEADERS = ("retry-after",)
MAX_AGE_S = 3600


def cors_headers(method: str, headers: Mapping[str, str], origins: Collection[str]) -> dict[str, str]:
    """Return the headers to add to an answer; none unless a page of one of the origins asks.

    Args:
        method: The request's.
        headers: The request's, by name in lower case.
        origins: Those that are allowed; ``*`` is all.

    >>> cors_headers("GET", {"origin": "https://a.example"}, ["https://a.example"])["Access-Control-Allow-Origin"]
    'https://a.example'
    >>> cors_headers("GET", {"origin": "https://b.example"}, ["https://a.example"])
    {}
    """
    origin = headers.get("origin", "")
    if not origin or not {origin, "*"} & set(origins):
        return {}
    found = {"Access-Control-Allow-Origin": "*" if "*" in origins else origin, "Vary": "Origin"}
    if method == "OPTIONS" and "access-control-request-method" in headers:
        return {
            **found,
            "Access-Control-Allow-Methods": ",".join(ALLOW_METHODS),
            "Access-Control-Allow-Headers": ",".join(ALLOW_HEADERS),
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
    return {**found, "Access-Control-Expose-Headers": ",".join(EXPOSE_HEADERS)}
