"""Which branch of a conditions node holds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from .manifests import ABSENT, Case, ConditionsNode, Expression


def chosen_output(node: ConditionsNode, inputs: Mapping[str, Any]) -> str | None:
    """Give the handle of the first case that holds, else the default's, else None."""
    return next((case.handle for case in node.cases if _holds(case, inputs)), node.default)


def _holds(case: Case, inputs: Mapping[str, Any]) -> bool:
    results = [_compare(expression, inputs) for expression in case.expressions]
    if not results:
        return False
    return all(results) if case.logical == "AND" else any(results)


def _compare(expression: Expression, inputs: Mapping[str, Any]) -> bool:
    left = inputs.get(expression.input_handle)
    if expression.operator in _UNARY:
        return _UNARY[expression.operator](left)
    if expression.value is ABSENT:
        return False
    # None says that the operator doesn't fit the values; then its negation doesn't hold either.
    name = _NEGATIONS.get(expression.operator, expression.operator)
    result = _BINARY[name](left, expression.value)
    if result is None:
        return False
    return result if name == expression.operator else not result


def _equal(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1, while 1 and 1.0 are the same number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    return bool(left == right)


def _includes(values: Any, wanted: Any) -> bool:
    return any(_equal(value, wanted) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    return lambda left, right: (
        compare(left, right) if _is_number(left) and _is_number(right) else None
    )


def _is_empty(value: Any) -> bool | None:
    if value is None:
        return True
    return not value if isinstance(value, (str, list, dict)) else None


def _contains(left: Any, right: Any) -> bool | None:
    if isinstance(left, str):
        return right in left if isinstance(right, str) else None
    return _includes(left, right) if isinstance(left, list) else None


def _in(left: Any, right: Any) -> bool | None:
    return _includes(right, left) if isinstance(right, list) else None


def _has_key(left: Any, right: Any) -> bool | None:
    return right in left if isinstance(left, dict) and isinstance(right, str) else None


def _has_value(left: Any, right: Any) -> bool | None:
    return _includes(left.values(), right) if isinstance(left, dict) else None


def _starts_with(left: Any, right: Any) -> bool:
    return isinstance(left, str) and isinstance(right, str) and left.startswith(right)


def _ends_with(left: Any, right: Any) -> bool:
    return isinstance(left, str) and isinstance(right, str) and left.endswith(right)


_UNARY: Mapping[str, Callable[[Any], bool]] = {
    "is null": lambda value: value is None,
    "is not null": lambda value: value is not None,
    "is true": lambda value: value is True,
    "is false": lambda value: value is False,
    "is empty": lambda value: _is_empty(value) is True,
    "is not empty": lambda value: _is_empty(value) is False,
}
_BINARY: Mapping[str, Callable[[Any, Any], bool | None]] = {
    "==": _equal,
    ">": _ordered(operator.gt),
    "<": _ordered(operator.lt),
    ">=": _ordered(operator.ge),
    "<=": _ordered(operator.le),
    "contains": _contains,
    "in": _in,
    "has key": _has_key,
    "has value": _has_value,
    "starts with": _starts_with,
    "ends with": _ends_with,
}
_NEGATIONS: Mapping[str, str] = {
    "!=": "==",
    "not contains": "contains",
    "not in": "in",
    "not has key": "has key",
    "not has value": "has value",
}
