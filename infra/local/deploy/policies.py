"""IAM policies decided: whether statements let an action on a resource through, conditions among them. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from functools import cache
from typing import Any

Context = Mapping[str, str]
"""Condition keys of a request, as in ``kms:ViaService``; one that is not there is not known, so nothing equals it."""


class UnknownConditionError(Exception):
    """A condition's operator that is not known here: to guess would be to let through, or to refuse, at random."""


def is_allowed(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context | None = None
) -> bool:
    """Decides: some statement allows it, and none denies it.

    Args:
        documents: Policy documents, all of one principal.
        action: As in ``kinesis:PutRecords``.
        resource: An ARN; ``*`` for an action that has none.
        context: Condition keys.

    >>> document = {"Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::rides/models/*"}}
    >>> is_allowed([document], "s3:GetObject", "arn:aws:s3:::rides/models/a/forest.npz")
    True
    >>> is_allowed([document], "s3:GetObject", "arn:aws:s3:::rides/rejects/a")
    False
    """
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _listed(document["Statement"])
        if _concerns(statement, action, resource, context or {})
    }
    return effects == {"Allow"}


def _concerns(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        _matches(statement.get("Action"), statement.get("NotAction"), action.lower(), str.lower)
        and _matches(statement.get("Resource", "*"), statement.get("NotResource"), resource, str)
        and all(
            _holds(operator, key, wanted, context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _matches(patterns: Any, but_not: Any, value: str, fold: Callable[[str], str]) -> bool:
    if but_not is not None:
        return not any(like(fold(pattern), value) for pattern in _listed(but_not))
    return any(like(fold(pattern), value) for pattern in _listed(patterns))


def _holds(operator: str, key: str, wanted: Any, context: Context) -> bool:
    value = context.get(key)
    values = [str(one) for one in _listed(wanted)]
    if operator.endswith("IfExists"):
        return value is None or _holds(operator.removesuffix("IfExists"), key, wanted, context)
    match operator:
        case "StringEquals" | "Bool":
            return value is not None and value.lower() in [one.lower() for one in values]
        case "StringLike" | "ArnLike" | "ArnEquals":
            return value is not None and any(like(pattern, value) for pattern in values)
        case "StringNotEquals":
            return value not in values
        case "NumericLessThan":
            return value is not None and any(float(value) < float(limit) for limit in values)
    raise UnknownConditionError(operator)


def like(pattern: str, value: str) -> bool:
    """Says whether a value is like a pattern of IAM's, in which ``*`` and ``?`` stand for anything."""
    return _compiled(pattern).match(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
