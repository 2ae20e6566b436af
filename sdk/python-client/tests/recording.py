"""A client that remembers what it asked for, to be held against the description of the API."""

from __future__ import annotations

from typing import Any, Dict, Set, Tuple

from tidegate_client import Tidegate

Operations = Set[Tuple[str, str]]


class Recording(Tidegate):
    """Remembers which operations were asked for."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.asked: Operations = set()

    def _tried(self, request: Any, *arguments: Any) -> Any:
        parts = request.path.split("?")[0].split("/")
        for noun, names in (("apps", ["{tenant}", "{app}"]), ("tenants", ["{tenant}"])):
            if parts[2:3] == [noun]:
                parts[3:3 + len(names)] = names[:len(parts[3:])]
        for noun, name in (("sessions", "{client}"), ("versions", "{number}")):
            if noun in parts[:-1]:
                parts[-1] = name
        self.asked.add((request.method.lower(), "/".join(parts)))
        return super()._tried(request, *arguments)


def described(document: Dict[str, Any], pushes: bool) -> Operations:
    """The operations of a description that are for who pushes, or all others."""
    return {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "put", "post", "patch", "delete") and _is_push(operation) == pushes
    }


def _is_push(operation: Any) -> bool:
    good = operation["responses"].get("200", {})
    schema = good.get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref", "").split("/")[-1] in ("Reached", "Results", "Answer")
