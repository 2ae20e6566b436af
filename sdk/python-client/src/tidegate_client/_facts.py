"""What is told of apps, deployments, tenants and nodes. What a newer server tells besides is in `details`, where there are any."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar, Union, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class VersionRef:
    """A version of an app."""

    number: int
    #: Of its component, SHA-256, 64 hex digits.
    digest: str


@dataclass(frozen=True)
class Canary:
    """Judge a deployment on a part of the slots first."""

    #: How many of them, 1 to 99.
    percent: int
    #: How long they are compared with the others.
    for_ms: int = 30_000
    #: Callbacks that each version must have run to be judged.
    events_min: int = 100


@dataclass(frozen=True)
class Outcome:
    """How a deployment ended."""

    #: `committed`, `rolled-back` or `mixed`.
    kind: str
    #: Why it did not commit.
    reason: Optional[str] = None


@dataclass(frozen=True)
class Failure:
    """Why a worker cannot run a version."""

    stage: str
    reason: str
    slot: Optional[int] = None


@dataclass(frozen=True)
class Tally:
    """What a version has done."""

    turns: int
    errors: int
    traps: int
    overruns: int


@dataclass(frozen=True)
class Worker:
    """An app on one worker."""

    worker: str
    #: The version of each slot; None: none yet.
    slots: Tuple[Optional[int], ...]
    asleep: int
    #: How far it is with the deployment that goes on.
    step: Optional[str] = None
    failure: Optional[Failure] = None
    details: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Underway:
    """What is being deployed."""

    version: VersionRef
    by: str
    at_ms: int
    doing: str


@dataclass(frozen=True)
class Trouble:
    """What a node cannot do for an app."""

    node: NodeInfo
    app: str
    reason: str


@dataclass(frozen=True)
class Created:
    """An app that was made at run time."""

    suspended: bool
    tenant_suspended: bool
    #: Its settings, secrets hidden.
    spec: Dict[str, Any]
    troubles: Tuple[Trouble, ...] = ()


@dataclass(frozen=True)
class AppInfo:
    """What an app runs where, and how it does."""

    #: `tenant/name`.
    app: str
    workers: Tuple[Worker, ...]
    #: What the version that runs has done.
    health: Tally
    stable: Optional[VersionRef] = None
    deploying: Optional[Underway] = None
    #: None: it stands in settings files.
    created: Optional[Created] = None
    details: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Deploying:
    """How the deployment that goes on gets on."""

    app: str
    deploying: Underway
    workers: Tuple[Worker, ...]
    stable: Optional[VersionRef] = None


@dataclass(frozen=True)
class Clients:
    """Clients during a swap."""

    before: int
    after: int
    opened: int
    closed: int
    #: Events that came meanwhile.
    events: int
    lost: int


@dataclass(frozen=True)
class Pauses:
    """How long slots stood still, in microseconds."""

    longest_us: int
    p99_us: int


@dataclass(frozen=True)
class Audit:
    """What the numbers of events say."""

    lost: int
    repeated: int
    reordered: int


@dataclass(frozen=True)
class Report:
    """What a deployment came to. All of it, turns and times included, is in `details`."""

    app: str
    version: VersionRef
    at_ms: int
    outcome: Outcome
    workers: int
    slots: int
    switched: int
    switched_back: int
    audit: Audit
    #: The version that was deployed again.
    again: Optional[int] = None
    previous: Optional[VersionRef] = None
    clients: Optional[Clients] = None
    pauses: Optional[Pauses] = None
    details: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class State:
    """Whether a deployment goes on; one of both is there."""

    #: What it does.
    running: Optional[str] = None
    ended: Optional[Outcome] = None


@dataclass(frozen=True)
class Version:
    """A line of an app's history."""

    version: VersionRef
    by: str
    note: str
    at_ms: int
    state: State
    #: The version that was deployed again.
    again: Optional[int] = None
    canary: Optional[Canary] = None
    #: What it came to: in `App.version`, not in `App.versions`.
    report: Optional[Report] = None


@dataclass(frozen=True)
class News:
    """How a deployment gets on."""

    #: `started`, `worker`, `canary`, `switching`, `failed`, `going-back`, `not-stored`, `waiting`, `ended`, `refused`, or newer.
    news: str
    #: For people.
    text: str
    version: Optional[VersionRef] = None
    worker: Optional[str] = None
    step: Optional[str] = None
    #: Slots that have switched, on this worker.
    switched: Optional[int] = None
    slots: Optional[int] = None
    failure: Optional[Failure] = None
    reason: Optional[str] = None
    report: Optional[Report] = None
    details: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class NodeInfo:
    """A node of the cluster."""

    role: str
    name: str
    #: Where it can be reached, for operators.
    address: Optional[str] = None
    #: Of a gateway, the first 12 digits of its clients' ids.
    gateway: Optional[str] = None


@dataclass(frozen=True)
class Order:
    """What became of an order about apps or tenants."""

    revision: int
    #: Apps that it is about.
    apps: Tuple[str, ...]
    #: Nodes that have not done it yet; they do it when they are back.
    behind: Tuple[NodeInfo, ...]
    #: What nodes cannot do.
    troubles: Tuple[Trouble, ...]


@dataclass(frozen=True)
class Usage:
    """What a tenant's apps have."""

    apps: int
    slots: int
    memory_mib: int
    connections: int
    cpu_share_millis: int


@dataclass(frozen=True)
class TenantInfo:
    """What a tenant may have, and what it has."""

    tenant: str
    #: It stands in a settings file.
    fixed: bool
    suspended: bool
    #: Those that are set.
    quotas: Dict[str, int]
    usage: Usage


@dataclass(frozen=True)
class AppOnNode:
    """An app on the node that answers; None is what the node's roles do not know."""

    app: str
    clients: Optional[int] = None
    slots: Optional[int] = None
    asleep: Optional[int] = None
    turns: Optional[int] = None
    failed: Optional[int] = None


@dataclass(frozen=True)
class MissingNode:
    """A node that did not answer."""

    role: str
    node: str
    reason: str


@dataclass(frozen=True)
class Connection:
    """A client's connection to a gateway."""

    #: Its id.
    client: str
    #: `tenant/name`.
    app: str
    #: `ws`, `text`, `frame` or `tcp`.
    protocol: str
    #: Where the client is.
    remote: str
    #: For so many seconds.
    age_s: int
    #: `upgrading`, `open` or `closing`.
    state: str
    #: How many groups it is in.
    groups: int
    #: What its events under way weigh.
    in_flight: int
    #: What waits to be written to it.
    queued_bytes: int
    uid: Optional[str] = None
    #: Where its slot is.
    worker: Optional[str] = None
    slot: Optional[int] = None
    #: Why it is not read: `no-slot`, `no-credit`, `in-flight` or `rate`.
    paused: Optional[str] = None


@dataclass(frozen=True)
class Connections:
    """The connections of an app."""

    #: How many there are, told here or not.
    total: int
    connections: Tuple[Connection, ...]
    missing: Tuple[MissingNode, ...]


@dataclass(frozen=True)
class LogLine:
    """A line of an app's log."""

    worker: str
    #: Of the worker's lines of this app.
    number: int
    #: When, in milliseconds since 1970.
    at_ms: int
    #: `error`, `warn`, `info`, `debug` or `trace`.
    level: str
    #: False: it is said of the plugin.
    by_plugin: bool
    version: int
    slot: int
    text: str


@dataclass(frozen=True)
class Logs:
    """Lines of an app's log on all workers, in the order of their times."""

    lines: Tuple[LogLine, ...]
    #: So many were gone before they were asked for.
    missed: int
    #: What to ask for those that come.
    next: str
    missing: Tuple[MissingNode, ...]


@dataclass(frozen=True)
class Status:
    """How the node does that answers."""

    node: str
    roles: Tuple[str, ...]
    version: str
    uptime_s: int
    ready: bool
    apps: Tuple[AppOnNode, ...]


def made(kind: Type[T], document: Mapping[str, Any]) -> T:
    """One of these, of an answer. What it does not know of the answer does no harm."""
    hints = _hints(kind)
    known = {name: _value(hint, document[name]) for name, hint in hints.items() if name in document}
    if "details" in hints:
        known["details"] = dict(document)
    return kind(**known)


@lru_cache(maxsize=None)  # As many as there are classes here.
def _hints(kind: Any) -> Dict[str, Any]:
    hints = get_type_hints(kind)
    return {part.name: hints[part.name] for part in fields(kind)}


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = getattr(hint, "__origin__", None), getattr(hint, "__args__", ())
    if value is None:
        return None
    if origin is Union:
        return _value(arguments[0], value)
    if origin is tuple:
        return tuple(_value(arguments[0], part) for part in value)
    if hint is Outcome:
        return _outcome(value)
    return made(hint, value) if is_dataclass(hint) else value


# `"committed"`, or a kind with its reason: `{"mixed": {"reason": "..."}}`.
def _outcome(value: Any) -> Outcome:
    if isinstance(value, str):
        return Outcome(value)
    ((kind, about),) = value.items()
    return Outcome(kind, about.get("reason"))
