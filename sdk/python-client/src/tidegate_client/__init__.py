"""Pushes to the clients of Tidegate's apps, and questions about them, from outside of plugins.

    from tidegate_client import Tidegate, groups

    tidegate = Tidegate("http://127.0.0.1:7480", token)
    chat = tidegate.app("chat")
    print(chat.send(groups("room-1"), "hello").reached)

Everything is safe to use from several threads.
"""

from ._app import App, Batch, ClientSession, Commands
from ._client import Tidegate
from ._errors import (
    BadBody,
    Busy,
    Forbidden,
    ForeignHost,
    ForeignOrigin,
    Invalid,
    KeyInUse,
    KeyReused,
    NoGateway,
    NoSuchApp,
    NoSuchPath,
    Problem,
    Refused,
    TidegateError,
    TooFast,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
)
from ._types import (
    EVERYBODY,
    Answer,
    Audience,
    ClientInfo,
    Effect,
    Effects,
    Message,
    Missing,
    Name,
    Raw,
    Reached,
    clients,
    groups,
    uids,
)

__all__ = [
    "EVERYBODY",
    "Answer",
    "App",
    "Audience",
    "BadBody",
    "Batch",
    "Busy",
    "ClientInfo",
    "ClientSession",
    "Commands",
    "Effect",
    "Effects",
    "Forbidden",
    "ForeignHost",
    "ForeignOrigin",
    "Invalid",
    "KeyInUse",
    "KeyReused",
    "Message",
    "Missing",
    "Name",
    "NoGateway",
    "NoSuchApp",
    "NoSuchPath",
    "Problem",
    "Raw",
    "Reached",
    "Refused",
    "Tidegate",
    "TidegateError",
    "TooFast",
    "TooLarge",
    "TooSlow",
    "Unauthorized",
    "UnexpectedAnswer",
    "Unreachable",
    "clients",
    "groups",
    "uids",
]
