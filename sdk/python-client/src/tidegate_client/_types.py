"""What requests and answers are made of."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Dict, Generic, List, Literal, Mapping, Optional, Sequence, Tuple, TypeVar, Union

T = TypeVar("T")

#: A uid or a group: a text or a whole number.
Name = Union[str, int]

#: Who is meant: `EVERYBODY`, or what `clients`, `uids` and `groups` make.
Audience = Union[Literal["all"], Mapping[str, Sequence[Name]]]

#: All clients of the app.
EVERYBODY: Literal["all"] = "all"


@dataclass(frozen=True)
class Raw:
    """Bytes that go out as they are, without the listener's protocol around them."""

    data: bytes


#: A text, bytes that are sent as a binary message, or `Raw`.
Message = Union[str, bytes, Raw]


def clients(*ids: str) -> Audience:
    """These clients; 20 hex digits each."""
    return {"clients": list(ids)}


def uids(*names: Name) -> Audience:
    """Every client that is bound to one of these uids."""
    return {"uids": list(names)}


def groups(*names: Name) -> Audience:
    """Everybody in one of these groups, once."""
    return {"groups": list(names)}


@dataclass(frozen=True)
class Missing:
    """A gateway that did not say that it has it."""

    #: The first 12 digits of its clients' ids.
    gateway: str
    #: Its name in the cluster.
    name: str
    #: `not-linked`, `busy`, `refused`: it is not applied there; `lost`, `late`: perhaps.
    why: str


@dataclass(frozen=True)
class Reached:
    """What became of a command."""

    #: How many clients it is about.
    reached: int
    #: Gateways that did not say that they have it; the others have it.
    missing: Tuple[Missing, ...]


@dataclass(frozen=True)
class Effect:
    """What became of one command of a batch."""

    #: How many clients it is about; None if it was refused.
    reached: Optional[int]
    #: Why it was refused, if it was.
    refused: Optional[str]


@dataclass(frozen=True)
class Effects:
    """What became of a batch."""

    #: One for each command, in order.
    results: Tuple[Effect, ...]
    #: Gateways that did not say that they have it; the others have it.
    missing: Tuple[Missing, ...]


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What the gateways that answered know."""

    #: What was asked for.
    value: T
    #: Gateways that did not answer: what they know is not in `value`.
    missing: Tuple[Missing, ...]
    #: Why a gateway did not answer, if one said so.
    refused: Optional[str]


@dataclass(frozen=True)
class ClientInfo:
    """A client. What was not asked for is None, as what it does not have."""

    #: Its id, 20 hex digits.
    client: str
    #: Whom it is bound to.
    uid: Optional[str]
    #: Its groups, in no order.
    groups: Optional[List[str]]
    #: Its session.
    session: Optional[Dict[str, Any]]


def message_of(message: Message) -> Dict[str, str]:
    """The one field that a message is in a body."""
    if isinstance(message, str):
        return {"text": message}
    if isinstance(message, Raw):
        return {"raw": base64.b64encode(message.data).decode("ascii")}
    if isinstance(message, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(message).decode("ascii")}
    raise TypeError(f"a message is str, bytes or Raw, not {type(message).__name__}: use json.dumps for anything else")


def missing_of(document: Dict[str, Any]) -> Tuple[Missing, ...]:
    """Who is missing in an answer."""
    return tuple(Missing(part["gateway"], part["name"], part["why"]) for part in document["missing"])


def info_of(part: Dict[str, Any]) -> ClientInfo:
    """A client of an answer."""
    return ClientInfo(part["client"], part.get("uid"), part.get("groups"), part.get("session"))
