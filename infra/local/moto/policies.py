"""Evaluate IAM policies: whether statements allow an action on a resource, conditions included. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from functools import cache
from typing import Any

Context = Mapping[str, str]
"""Condition keys of a request, as in ``kms:ViaService``. A key that is missing equals nothing."""


class UnknownConditionError(Exception):
    """A condition operator that is not supported here."""


def is_allowed(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context | None = None
) -> bool:
    """Return whether a statement allows the action and none denies it.

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
        if _applies(statement, action, resource, context or {})
    }
    return effects == {"Allow"}


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        _matches(statement.get("Action"), statement.get("NotAction"), action.lower(), str.lower)
        and _matches(statement.get("Resource", "*"), statement.get("NotResource"), resource, str)
        and all(
            _holds(operator, key, wanted, context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _matches(patterns: Any, excluded: Any, value: str, fold: Callable[[str], str]) -> bool:
    if excluded is not None:
        return not any(_like(fold(pattern), value) for pattern in _listed(excluded))
    return any(_like(fold(pattern), value) for pattern in _listed(patterns))


def _holds(operator: str, key: str, wanted: Any, context: Context) -> bool:
    value = context.get(key)
    values = [str(one) for one in _listed(wanted)]
    if operator.endswith("IfExists"):
        return value is None or _holds(operator.removesuffix("IfExists"), key, wanted, context)
    match operator:
        case "Null":
            return str(value is None).lower() in [one.lower() for one in values]
        case "StringEquals" | "Bool":
            return value is not None and value.lower() in [one.lower() for one in values]
        case "StringLike" | "ArnLike" | "ArnEquals":
            return value is not None and any(_like(pattern, value) for pattern in values)
        case "StringNotEquals":
            return value not in values
        case "NumericLessThan":
            return value is not None and any(float(value) < float(limit) for limit in values)
    raise UnknownConditionError(operator)


def _like(pattern: str, value: str) -> bool:
    """Return whether a value matches an IAM pattern with the wildcards ``*`` and ``?``."""
    return _compiled(pattern).match(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
