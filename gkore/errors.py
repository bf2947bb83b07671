"""Every exception gkore raises on its own account.

    GkoreError
      UsageError            the command line is wrong                 exit status 2
      StartError            conf, application or machine refuse       exit status 3
        ConfError           the conf has mistakes, each with a place  exit status 3
        Unanswered          a running server does not say anything    exit status 3
      ProtocolError         a client broke the protocol; carries the HTTP status to answer
      ClientGone            the peer left while we still had something to say
    Overtime                a route's timeout ends its handler; a BaseException: ``except Exception`` doesn't stop it

Faults of the user's own code are not here: they stay what they are and are reported to ``kore.tracer`` or the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gkore.conf.diagnostics import Mistake


class GkoreError(Exception):
    """The root: whatever gkore itself refuses."""

    exit_status = 3


class UsageError(GkoreError):
    """The command line can't be understood."""

    exit_status = 2


class StartError(GkoreError):
    """The server can't start: one line that says what to do."""


class ConfError(StartError):
    """The conf has mistakes; all of them, in the order of their places."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''} in the configuration")
        self.mistakes = tuple(mistakes)


class Unanswered(StartError):
    """A server is there, but it does not answer in time."""


class ProtocolError(GkoreError):
    """A request that is answered with ``status``, the fields ``headers``, and a closed connection."""

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


class ClientGone(GkoreError):
    """The client closed its connection; nothing that is sent now can arrive."""


class Overtime(BaseException):
    """Raised in a handler whose route has a ``timeout``, once that is over."""
