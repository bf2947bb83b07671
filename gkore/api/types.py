"""The types that handlers are given, by the names that Kore's reference calls them; for annotations and isinstance."""

from __future__ import annotations

from gkore.worker.peer import Peer
from gkore.worker.request import Request
from gkore.worker.uploads import HttpFile

http_request = Request
http_file = HttpFile
connection = Peer

pyhttp_request = Request
pyhttp_file = HttpFile
pyconnection = Peer
"""As the C code calls them."""
