"""An app from the outside: what it runs, deployments, and orders about it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Type, Union
from urllib.parse import urlencode

from ._errors import NotDeploying, RolledBack, problem_of
from ._facts import (
    AppInfo,
    Canary,
    Connections,
    Deploying,
    Logs,
    News,
    Order,
    Report,
    Version,
    VersionRef,
    made,
)
from ._lines import Lines

if TYPE_CHECKING:
    from ._client import Tidegate

#: How long is waited for a deployment, in seconds, unless its caller says so. It goes on in any case.
DEPLOYMENT_S = 3600.0

#: What is deployed: a component, the number of a version of the app, or the `VersionRef` of any app's.
Module = Union[bytes, int, VersionRef]


class Deployment:
    """A deployment that goes on, as an iterator of its news. It goes on too when nobody reads them, or when this is closed."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._last: Optional[News] = None

    def __iter__(self) -> Iterator[News]:
        return self

    def __next__(self) -> News:
        if self._last is not None:
            raise StopIteration
        news = made(News, self._lines.next())
        if news.news in ("ended", "refused"):
            self._last = news
            self._lines.close()
        return news

    def wait(self) -> Report:
        """Reads the rest. What it came to, if every slot runs it; else `RolledBack`."""
        for _ in self:
            pass
        return _report(self._last)

    def close(self) -> None:
        """Hears no more of it."""
        self._lines.close()

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


class Steered:
    """What `App` has of all this. A deployment or an order whose answer is lost is not given again: `Unreachable` with `sent`
    says so, and `deploying`, `versions` and `info` tell what became of it."""

    _tidegate: Tidegate
    _path: str

    def info(self) -> AppInfo:
        """What it runs where, and how it does."""
        return made(AppInfo, self._tidegate._ask("GET", self._path, None, again=True))

    def versions(self, limit: int = 20) -> List[Version]:
        """What was deployed, the newest first, without the reports."""
        answer = self._tidegate._ask("GET", f"{self._path}/versions?limit={limit:d}", None, again=True)
        return [made(Version, part) for part in answer["versions"]]

    def version(self, number: int) -> Version:
        """One deployment with the report of its swap."""
        return made(Version, self._tidegate._ask("GET", f"{self._path}/versions/{number:d}", None, again=True))

    def connections(
        self, limit: int = 1000, *, client: Optional[str] = None, uid: Union[str, int, None] = None
    ) -> Connections:
        """The connections of its clients at all gateways: so many at most, of one client or of one uid."""
        query = _some(limit=limit, client=client, uid=uid)
        return made(Connections, self._tidegate._ask("GET", f"{self._path}/connections?{query}", None, again=True))

    def logs(self, limit: int = 100, *, after: str = "", level: Optional[str] = None) -> Logs:
        """The last lines of its log on all workers, so many at most, as loud as `level` or louder; or those behind what was
        read: `after` is then the `next` of what was told."""
        query = _some(limit=limit, after=after or None, level=level)
        return made(Logs, self._tidegate._ask("GET", f"{self._path}/logs?{query}", None, again=True))

    def deploy(
        self, module: Module, *, canary: Optional[Canary] = None, note: str = "", timeout: float = DEPLOYMENT_S
    ) -> Report:
        """Deploys, and waits for the end. `RolledBack` if not every slot runs it then."""
        with self.deploy_and_watch(module, canary=canary, note=note, timeout=timeout) as deployment:
            return deployment.wait()

    def deploy_and_watch(
        self, module: Module, *, canary: Optional[Canary] = None, note: str = "", timeout: float = DEPLOYMENT_S
    ) -> Deployment:
        """Deploys, and tells how it gets on. Keeps one of the connections until it is over or closed."""
        path = f"{self._path}/deployments?{_query('progress', canary, note)}"
        return Deployment(self._tidegate._watch("POST", path, _module(module), timeout))

    def deploy_and_leave(
        self, module: Module, *, canary: Optional[Canary] = None, note: str = "", timeout: float = DEPLOYMENT_S
    ) -> News:
        """Deploys, and returns when it has begun: what it began with."""
        path = f"{self._path}/deployments?{_query('none', canary, note)}"
        return made(News, self._tidegate._ask("POST", path, _module(module), again=False, timeout=timeout))

    def deploying(self) -> Optional[Deploying]:
        """How the deployment that goes on gets on; None: nothing is being deployed."""
        try:
            return made(Deploying, self._tidegate._ask("GET", f"{self._path}/deployments/current", None, again=True))
        except NotDeploying:
            return None

    def cancel(self) -> None:
        """Ends the deployment that goes on; returns when it is on its way back. `NotDeploying` if there is none."""
        self._tidegate._ask("DELETE", f"{self._path}/deployments/current", None, again=False)

    def roll_back(self, to: Optional[int] = None, note: str = "", timeout: float = DEPLOYMENT_S) -> Report:
        """Deploys an earlier version again, by default the one that ran before, and waits for the end as `deploy` does."""
        with self.roll_back_and_watch(to, note, timeout) as deployment:
            return deployment.wait()

    def roll_back_and_watch(
        self, to: Optional[int] = None, note: str = "", timeout: float = DEPLOYMENT_S
    ) -> Deployment:
        """Deploys an earlier version again, and tells how it gets on."""
        body = {"to": to, "note": note}
        return Deployment(self._tidegate._watch("POST", f"{self._path}/rollback?wait=progress", body, timeout))

    def roll_back_and_leave(self, to: Optional[int] = None, note: str = "", timeout: float = DEPLOYMENT_S) -> News:
        """Deploys an earlier version again, and returns when it has begun."""
        path, body = f"{self._path}/rollback?wait=none", {"to": to, "note": note}
        return made(News, self._tidegate._ask("POST", path, body, again=False, timeout=timeout))

    def create(self, settings: Optional[Mapping[str, Any]] = None) -> Order:
        """Makes the app with these settings, keys of `AppSpec` in the API's description; those that are left out have their
        defaults."""
        return self._order("POST", "", {} if settings is None else settings)

    def configure(self, settings: Mapping[str, Any]) -> Order:
        """Gives it other settings, all of them: what is left out has its default again."""
        return self._order("PUT", "", settings)

    def suspend(self) -> Order:
        """Takes its clients and its slots until it is resumed."""
        return self._order("POST", "/suspend", None)

    def resume(self) -> Order:
        """Lets it run again."""
        return self._order("POST", "/resume", None)

    def delete(self) -> Order:
        """Removes it with its clients, versions and history."""
        return self._order("DELETE", "", None)

    def _order(self, method: str, path: str, body: Optional[Mapping[str, Any]]) -> Order:
        return made(Order, self._tidegate._ask(method, self._path + path, body, again=False))


def _module(module: Module) -> Union[bytes, Dict[str, Any]]:
    if isinstance(module, VersionRef):
        return {"digest": f"sha256:{module.digest}"}
    if isinstance(module, int):
        return {"version": module}
    if isinstance(module, (bytes, bytearray, memoryview)):
        return bytes(module)
    raise TypeError(f"a module is bytes, a version's number or a VersionRef, not {type(module).__name__}: open the file")


def _some(**query: Any) -> str:
    return urlencode({name: value for name, value in query.items() if value is not None})


def _query(wait: str, canary: Optional[Canary], note: str) -> str:
    query: Dict[str, Any] = {"wait": wait}
    if canary is not None:
        query.update(canary=canary.percent, canary_ms=canary.for_ms, events_min=canary.events_min)
    if note:
        query["note"] = note
    return urlencode(query)


def _report(last: Optional[News]) -> Report:
    if last is not None and last.news == "refused":
        problem = last.details["problem"]
        raise problem_of(problem, problem["status"])
    report = last.report if last is not None else None
    if report is None:
        raise ValueError("the end of a deployment was told without its report")
    if report.outcome.kind != "committed":
        where = f"`version({report.version.number})` has the report"
        detail = f"{report.app}: version {report.version.number} did not commit: {report.outcome.reason}; {where}"
        raise RolledBack("urn:tidegate:problem:rolled-back", "It was rolled back", 409, detail)
    return report
