"""Values of ``--cfg-options`` that hold dicts, which MMEngine's parser does not know."""

from __future__ import annotations

import ast

_NAMES = {"true": True, "false": False, "none": None, "null": None}


def holds_a_dict(text: str) -> bool:
    """Return whether a value is written as a dict or as a list that may contain one."""
    text = text.strip()
    return text.startswith(("{", "dict(")) or text.startswith(("[", "(")) and ("{" in text or "dict(" in text)


def parse(text: str) -> object:
    """Parse a value of dicts, lists and plain values: ``{'type': 'ToMe', 'r': 4}``, ``[dict(type=CostHook)]``, JSON.

    Words without quotes are texts.

    Raises:
        ValueError: it is none of these.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError:
        raise ValueError("it is not a dict or list that can be read") from None


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Name):
        return _NAMES.get(node.id.lower(), node.id)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key is not None}
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
    if named and all(item.arg for item in node.keywords):
        return {item.arg: _value(item.value) for item in node.keywords}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(f"{ast.unparse(node)} is not a plain value: put a text in quotes") from None
