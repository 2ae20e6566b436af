"""What can be said to, and asked of, one app."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, Iterable, List, Mapping, Optional, TypeVar, Union
from urllib.parse import quote

from ._steering import Steered
from ._types import (
    Answer,
    Audience,
    ClientInfo,
    Effect,
    Effects,
    Message,
    Name,
    Reached,
    info_of,
    message_of,
    missing_of,
)

if TYPE_CHECKING:
    from ._client import Tidegate

R = TypeVar("R")
T = TypeVar("T")
Ids = Union[str, Iterable[str]]
Names = Union[Name, Iterable[Name]]


class Commands(Generic[R]):
    """The commands: an `App` gives each at once, a `Batch` collects them."""

    def _command(self, verb: str, body: Dict[str, Any]) -> R:
        raise NotImplementedError

    def send(self, to: Audience, message: Message, but: Ids = ()) -> R:
        """Sends a message to an audience, without the clients of `but`."""
        return self._command("send", {"to": to, **_but(but), **message_of(message)})

    def close(
        self,
        to: Audience,
        code: Optional[int] = None,
        reason: Optional[str] = None,
        farewell: Optional[Message] = None,
        but: Ids = (),
    ) -> R:
        """Closes an audience; `code` is 1000 or 3000 to 4999, `farewell` a last message."""
        body: Dict[str, Any] = {"to": to, **_but(but)}
        if code is not None:
            body["code"] = code
        if reason is not None:
            body["reason"] = reason
        if farewell is not None:
            body["farewell"] = message_of(farewell)
        return self._command("close", body)

    def destroy(self, to: Audience, but: Ids = ()) -> R:
        """Drops the connections of an audience, without what waits to be sent to it."""
        return self._command("destroy", {"to": to, **_but(but)})

    def bind(self, clients: Ids, uid: Name) -> R:
        """Binds clients to a uid, in place of the one that they had."""
        return self._command("bind", {"client": _many(clients), "uid": uid})

    def unbind(self, clients: Ids) -> R:
        """Takes the uid of clients away."""
        return self._command("unbind", {"client": _many(clients)})

    def join(self, clients: Ids, groups: Names) -> R:
        """Puts clients into groups."""
        return self._command("join", {"client": _many(clients), "group": _many(groups)})

    def leave(self, clients: Ids, groups: Names) -> R:
        """Takes clients out of groups."""
        return self._command("leave", {"client": _many(clients), "group": _many(groups)})

    def disband(self, groups: Names) -> R:
        """Takes everybody out of groups."""
        return self._command("disband", {"group": _many(groups)})

    def set_session(self, clients: Ids, session: Mapping[str, Any]) -> R:
        """Replaces the session of clients."""
        return self._command("set-session", {"client": _many(clients), "session": session})

    def update_session(self, clients: Ids, session: Mapping[str, Any]) -> R:
        """Merges into the session of clients."""
        return self._command("update-session", {"client": _many(clients), "session": session})

    def clear_session(self, clients: Ids) -> R:
        """Removes the session of clients."""
        return self._command("clear-session", {"client": _many(clients)})


class App(Commands[Reached], Steered):
    """An app. Made by `Tidegate.app`; costs nothing."""

    def __init__(self, tidegate: Tidegate, tenant: str, name: str, key: Optional[str] = None) -> None:
        self._tidegate = tidegate
        self._path = f"/v1/apps/{quote(tenant, safe='')}/{quote(name, safe='')}"
        self._names = (tenant, name)
        self._key = key

    def once(self, key: str) -> App:
        """The same app, for one command with this idempotency key: whoever gives the same command with the same key
        within ten minutes, in whatever process, gets the first answer, and nothing is done twice."""
        return App(self._tidegate, *self._names, key=key)

    def batch(self) -> Batch:
        """A batch: collect commands, then `push` them in one request."""
        return Batch(self)

    def session(self, client: str) -> ClientSession:
        """A client's session, as something to read and write."""
        return ClientSession(self._tidegate, f"{self._path}/sessions/{quote(client, safe='')}")

    def count(self, of: Audience) -> Answer[int]:
        """How many clients an audience has."""
        return self._ask("count", {"of": of}, lambda answer: int(answer["count"]))

    def count_uids(self, of: Audience) -> Answer[int]:
        """How many uids the clients of an audience have."""
        return self._ask("count-uids", {"of": of}, lambda answer: int(answer["count"]))

    def count_by_group(self, groups: Names) -> Answer[Dict[str, int]]:
        """How many clients each of these groups has; names that are numbers come back as texts."""
        return self._ask("count-by-group", {"groups": _many(groups)}, lambda answer: dict(answer["counts"]))

    def clients(self, of: Audience) -> Answer[List[str]]:
        """The ids of the clients of an audience."""
        return self._ask("clients", {"of": of}, lambda answer: list(answer["clients"]))

    def uids(self, of: Audience) -> Answer[List[str]]:
        """The uids of the clients of an audience, in order."""
        return self._ask("uids", {"of": of}, lambda answer: list(answer["uids"]))

    def groups(self, of: Audience) -> Answer[List[str]]:
        """The groups of the clients of an audience, in order."""
        return self._ask("groups", {"of": of}, lambda answer: list(answer["groups"]))

    def select(self, of: Audience, fields: Iterable[str] = ()) -> Answer[List[ClientInfo]]:
        """Each client of an audience with these of `uid`, `groups` and `session`; without `fields` all of them."""
        body: Dict[str, Any] = {"of": of, "fields": list(fields)}
        return self._ask("select", body, lambda answer: [info_of(part) for part in answer["clients"]])

    def online_clients(self, clients: Ids) -> Answer[Dict[str, bool]]:
        """Which of these clients are there."""
        return self._ask("online", {"clients": _many(clients)}, lambda answer: dict(answer["online"]))

    def online_uids(self, uids: Names) -> Answer[Dict[str, bool]]:
        """Which of these uids have a client; names that are numbers come back as texts."""
        return self._ask("online", {"uids": _many(uids)}, lambda answer: dict(answer["online"]))

    def _command(self, verb: str, body: Dict[str, Any]) -> Reached:
        answer = self._give(verb, body)
        return Reached(answer["reached"], missing_of(answer))

    def _give(self, verb: str, body: Dict[str, Any]) -> Dict[str, Any]:
        # A key of its own for each command makes it safe to try again.
        key = self._key or str(uuid.uuid4())
        return self._tidegate._ask("POST", f"{self._path}/{verb}", body, key=key, again=True)

    def _ask(self, verb: str, body: Dict[str, Any], value: Callable[[Dict[str, Any]], T]) -> Answer[T]:
        answer = self._tidegate._ask("POST", f"{self._path}/{verb}", body, again=True)
        return Answer(value(answer), missing_of(answer), answer.get("refused"))


class Batch(Commands["Batch"]):
    """Several commands that are given in one request, in order. The server takes 1,000 unless it is set otherwise."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._collected: List[Dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._collected)

    def push(self) -> Effects:
        """Gives all commands. One that a gateway refuses does not keep the others from being applied."""
        answer = self._app._give("batch", {"commands": self._collected})
        results = tuple(Effect(part.get("reached"), part.get("refused")) for part in answer["results"])
        return Effects(results, missing_of(answer))

    def _command(self, verb: str, body: Dict[str, Any]) -> Batch:
        self._collected.append({verb: body})
        return self


class ClientSession:
    """One client's session. Made by `App.session`."""

    def __init__(self, tidegate: Tidegate, path: str) -> None:
        self._tidegate = tidegate
        self._path = path

    def get(self) -> Answer[ClientInfo]:
        """The client's uid, groups and session; `NoSuchPath` if it is gone."""
        answer = self._tidegate._ask("GET", self._path, None, again=True)
        return Answer(info_of(answer["client"]), missing_of(answer), answer.get("refused"))

    def put(self, session: Mapping[str, Any]) -> Reached:
        """Replaces it."""
        return self._write("PUT", session)

    def patch(self, session: Mapping[str, Any]) -> Reached:
        """Merges into it. Not tried again: the session may be another by then."""
        return self._write("PATCH", session)

    def delete(self) -> Reached:
        """Removes it."""
        return self._write("DELETE", None)

    def _write(self, method: str, session: Optional[Mapping[str, Any]]) -> Reached:
        answer = self._tidegate._ask(method, self._path, session, again=method != "PATCH")
        return Reached(answer["reached"], missing_of(answer))


def _many(one_or_several: Any) -> List[Any]:
    return [one_or_several] if isinstance(one_or_several, (str, int)) else list(one_or_several)


def _but(clients: Ids) -> Dict[str, Any]:
    return {"except": _many(clients)} if clients else {}
