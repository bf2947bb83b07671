"""The chat of the demo site: what one browser says, all others hear, on whichever worker they are."""

import json
from pathlib import Path

from handlers import answer

import kore

PAGE = (Path(__file__).parent / "chat.html").read_text(encoding="utf-8")
LONGEST = 500


def chat(req):
    answer(req, "Chat", PAGE)


def chat_socket(req):
    req.websocket_handshake("chat_connected", "chat_said", "chat_left")


def chat_connected(c):
    c.name = f"guest {kore.worker()}-{c.fd}"
    tell_others(c, f"{c.name} is here")
    c.websocket_send(kore.WEBSOCKET_OP_TEXT, line("", f"You are {c.name}, on worker {kore.worker()}"))


def chat_said(c, op, data):
    if op == kore.WEBSOCKET_OP_TEXT and data.strip():
        text = line(c.name, data[:LONGEST])
        c.websocket_send(op, text)
        kore.websocket_broadcast(c, op, text, kore.WEBSOCKET_BROADCAST_GLOBAL)


def chat_left(c):
    tell_others(c, f"{c.name} has left")


def tell_others(c, text):
    kore.websocket_broadcast(c, kore.WEBSOCKET_OP_TEXT, line("", text), kore.WEBSOCKET_BROADCAST_GLOBAL)


def line(name, text):
    return json.dumps({"name": name, "text": text})
