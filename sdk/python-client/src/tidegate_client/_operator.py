"""What concerns more than one app: for tokens of role `admin`, and for operators."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Union
from urllib.parse import quote

from ._facts import AppInfo, NodeInfo, Order, Status, TenantInfo, made

#: A component, what becomes JSON, or nothing.
Body = Union[bytes, Mapping[str, Any], None]


class Operator:
    """What `Tidegate` has of all this."""

    def _ask(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        key: Optional[str] = None,
        again: bool,
        timeout: Optional[float] = None,
    ) -> Dict[str, Any]:
        raise NotImplementedError

    def apps(self) -> List[AppInfo]:
        """The apps that the token is for."""
        return [made(AppInfo, part) for part in self._ask("GET", "/v1/apps", None, again=True)["apps"]]

    def tenant(self, name: str) -> Tenant:
        """A tenant. Costs nothing."""
        return Tenant(self, name)

    def tenants(self) -> List[TenantInfo]:
        """What tenants may have and what they have: the token's, or all for an operator's."""
        return [made(TenantInfo, part) for part in self._ask("GET", "/v1/tenants", None, again=True)["tenants"]]

    def nodes(self) -> List[NodeInfo]:
        """The nodes of the cluster."""
        return [made(NodeInfo, part) for part in self._ask("GET", "/v1/nodes", None, again=True)["nodes"]]

    def status(self) -> Status:
        """How the node does that answers, with the token's apps on it."""
        return made(Status, self._ask("GET", "/v1/status", None, again=True))


class Tenant:
    """A tenant. Made by `Tidegate.tenant`. All but `info` needs an operator's token."""

    def __init__(self, tidegate: Operator, name: str) -> None:
        self._tidegate = tidegate
        self._path = f"/v1/tenants/{quote(name, safe='')}"

    def info(self) -> TenantInfo:
        """What it may have, and what it has."""
        return made(TenantInfo, self._tidegate._ask("GET", self._path, None, again=True))

    def create(self, quotas: Optional[Mapping[str, Optional[int]]] = None) -> Order:
        """Makes it, with these quotas: `apps_max`, `slots_max`, `memory_mib_max`, `connections_max`, `cpu_share_millis`."""
        return self._order("POST", "", {} if quotas is None else quotas)

    def configure(self, quotas: Mapping[str, Optional[int]]) -> Order:
        """Changes these quotas; None is no limit, the others stay."""
        return self._order("PATCH", "", quotas)

    def suspend(self) -> Order:
        """Takes clients and slots from its apps until it is resumed."""
        return self._order("POST", "/suspend", None)

    def resume(self) -> Order:
        """Lets its apps run again, but for those that are suspended themselves."""
        return self._order("POST", "/resume", None)

    def delete(self) -> Order:
        """Removes it and its apps, with all that is theirs."""
        return self._order("DELETE", "", None)

    def _order(self, method: str, path: str, body: Optional[Mapping[str, Any]]) -> Order:
        return made(Order, self._tidegate._ask(method, self._path + path, body, again=False))
