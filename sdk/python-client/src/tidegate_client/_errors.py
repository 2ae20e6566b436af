"""What goes wrong."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, Type

_PREFIX = "urn:tidegate:problem:"


class TidegateError(Exception):
    """Everything that this package raises, but for wrong arguments."""


class Unreachable(TidegateError):
    """No answer came: the server could not be reached, the connection ended, or the time was up."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        #: Whether the request may have been carried out all the same.
        self.sent = sent


class UnexpectedAnswer(TidegateError):
    """Something answered that is not Tidegate's API: a proxy's page of an error, as a rule."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        #: The HTTP status.
        self.status = status


class Problem(TidegateError):
    """The server says why it did nothing: a problem document of RFC 9457."""

    def __init__(self, type: str, title: str, status: int, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{title}: {detail}")
        #: `urn:tidegate:problem:<kind>`.
        self.type = type
        #: The kind in words.
        self.title = title
        #: The HTTP status.
        self.status = status
        #: What, where, and how to mend it.
        self.detail = detail
        #: In how many seconds it may go well, if the server says so.
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """The last part of the type, such as `no-such-app`; a kind that is newer than this package has no class."""
        return self.type[len(_PREFIX):] if self.type.startswith(_PREFIX) else self.type


class Unauthorized(Problem):
    """There was no token, or one that is not known."""


class Forbidden(Problem):
    """The token is for another tenant, app or role."""


class ForeignHost(Problem):
    """The server does not go by the name in the URL: see `hosts` of `[admin]`."""


class ForeignOrigin(Problem):
    """A web page of another server asked."""


class NoSuchPath(Problem):
    """There is nothing there, or the client is gone."""


class NoSuchApp(Problem):
    """No gateway has the app."""


class BadBody(Problem):
    """The body is not that of this request."""


class Invalid(Problem):
    """An empty name, a close code that is reserved, and the like."""


class Refused(Problem):
    """A gateway refused: a message that is too large, too many groups, a session that is no object."""


class TooLarge(Problem):
    """The body, the batch, or what it multiplies to."""


class TooSlow(Problem):
    """The body did not come in time."""


class KeyReused(Problem):
    """The idempotency key stands for another request."""


class KeyInUse(Problem):
    """The first request with this idempotency key is not done yet."""


class TooFast(Problem):
    """Too many requests a second."""


class Busy(Problem):
    """Too many requests at once."""


class NoGateway(Problem):
    """No gateway has announced itself yet."""


class BadMediaType(Problem):
    """The body of a deployment is neither a component nor JSON."""


class BadModule(Problem):
    """It is no plugin, or asks for what no worker has."""


class NoSuchVersion(Problem):
    """The history has no such version, or the register no such module."""


class NotDeploying(Problem):
    """Nothing of the app is being deployed."""


class DeploymentUnderway(Problem):
    """Another deployment goes on, or the end of it is decided."""


class RolledBack(Problem):
    """The deployment did not commit; the detail says why, and where its report is."""


class NoCapacity(Problem):
    """Workers have no room for instances of two versions."""


class Suspended(Problem):
    """The app or its tenant is suspended."""


class NoRoom(Problem):
    """The register's disk or store is full."""


class StoreFailed(Problem):
    """The register's store does not work."""


class Unavailable(Problem):
    """No worker has the app, or the register starts or stops."""


class NoSuchTenant(Problem):
    """There is no such tenant."""


class AlreadyThere(Problem):
    """It is there already."""


class Fixed(Problem):
    """It stands in a settings file."""


class QuotaReached(Problem):
    """A quota of the tenant forbids it."""


_CLASSES: Dict[str, Type[Problem]] = {
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "foreign-host": ForeignHost,
    "foreign-origin": ForeignOrigin,
    "no-such-path": NoSuchPath,
    "no-such-app": NoSuchApp,
    "bad-body": BadBody,
    "invalid": Invalid,
    "refused": Refused,
    "too-large": TooLarge,
    "too-slow": TooSlow,
    "key-reused": KeyReused,
    "key-in-use": KeyInUse,
    "too-fast": TooFast,
    "busy": Busy,
    "no-gateway": NoGateway,
    "bad-media-type": BadMediaType,
    "bad-module": BadModule,
    "no-such-version": NoSuchVersion,
    "not-deploying": NotDeploying,
    "deploying": DeploymentUnderway,
    "rolled-back": RolledBack,
    "no-capacity": NoCapacity,
    "suspended": Suspended,
    "no-room": NoRoom,
    "failed": StoreFailed,
    "unavailable": Unavailable,
    "no-such-tenant": NoSuchTenant,
    "exists": AlreadyThere,
    "fixed": Fixed,
    "quota": QuotaReached,
}


def problem_of(document: Any, status: int, retry_after: float = 0.0) -> Problem:
    """What a problem document says."""
    type = str(document["type"])
    kind = type[len(_PREFIX):] if type.startswith(_PREFIX) else ""
    made = _CLASSES.get(kind, Problem)
    return made(type, str(document["title"]), status, str(document["detail"]), retry_after)


def error_of(status: int, content_type: Optional[str], body: bytes, retry_after: float = 0.0) -> TidegateError:
    """What an answer that is no success says."""
    if content_type is not None and content_type.split(";")[0].strip() == "application/problem+json":
        try:
            return problem_of(json.loads(body), status, retry_after)
        except (ValueError, KeyError, TypeError):
            pass
    text = body[:200].decode("utf-8", "replace")
    return UnexpectedAnswer(status, f"status {status}, and no answer of Tidegate's API: {text!r}. Is a proxy in between?")
