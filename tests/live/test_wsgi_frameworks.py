"""Frameworks as they are, hosted: Django, and Flask-SocketIO over gevent-websocket's interface."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from server import DEADLINE, Server, until
from test_cluster import redis as redis

DJANGO = """
import django
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__, SECRET_KEY="for a test", ALLOWED_HOSTS=["*"], DEBUG=False,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DATA_UPLOAD_MAX_MEMORY_SIZE=1_000_000, FILE_UPLOAD_MAX_MEMORY_SIZE=1000,
)
django.setup()

from django import forms
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import Context, Engine
from django.template.context_processors import csrf
from django.urls import path

class Guest(forms.Form):
    name = forms.CharField(max_length=20)
    photo = forms.FileField(required=False)

def guest(request):
    form = Guest(request.POST or None, request.FILES or None)
    if form.is_valid():
        photo = form.cleaned_data["photo"]
        size = sum(map(len, photo.chunks())) if photo else 0
        return HttpResponse(f"welcome {form.cleaned_data['name']} {size}")
    page = Engine().from_string("<form>{% csrf_token %}{{ form }}</form>")
    return HttpResponse(page.render(Context({"form": form, **csrf(request)})), status=422 if request.POST else 200)

urlpatterns = [
    path("guest/", guest),
    path("static/app.py", lambda request: FileResponse(open(__file__, "rb"), content_type="text/x-python")),
    path("stream/", lambda request: StreamingHttpResponse(str(n) for n in range(100))),
    path("who/<str:name>/", lambda request, name: JsonResponse({"name": name, "secure": request.is_secure()})),
]
application = get_wsgi_application()
"""
SOCKETIO = """
import os
from flask import Flask, request
from flask_socketio import SocketIO, emit, join_room

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent", cors_allowed_origins="*")

@app.get("/")
def index():
    return "a page"

@socketio.on("connect")
def connected():
    join_room("all")
    emit("hello", f"{request.args.get('name')} {os.getpid()}")

@socketio.on("say")
def say(data):
    emit("said", data, to="all")
    return "heard"

@socketio.on("later")
def later(data):
    def work():
        socketio.sleep(0.01)
        socketio.emit("said", data, to="all")
    socketio.start_background_task(work)

@socketio.on("shout")
def shout(data):
    return bytes(reversed(data))
"""


def hosted(server, tmp_path: Path, name: str, code: str, more: str = "", **options: object) -> Server:
    (tmp_path / f"{name}.py").write_text(code)
    target = {"djangosite": "application", "talk": "app"}[name]
    return server(
        f"python_path {tmp_path}\n{more}domain * {{\n\troute ^/ {{\n\t\twsgi {name}:{target}\n\t}}\n}}\n", **options
    )


def test_django(server, tmp_path):
    pytest.importorskip("django", reason="Django is not installed: Django on gkore is NOT tested")
    requests = pytest.importorskip("requests")
    up = hosted(server, tmp_path, "djangosite", DJANGO)
    base = f"http://127.0.0.1:{up.port}"
    with requests.Session() as session:
        page = session.get(f"{base}/guest/").text
        token = re.search('csrfmiddlewaretoken" value="([^"]+)', page)[1]
        assert session.post(f"{base}/guest/", {"name": "Ada"}).status_code == 403
        form = {"name": "Ada", "csrfmiddlewaretoken": token}
        assert session.post(f"{base}/guest/", form).text == "welcome Ada 0"
        assert session.post(f"{base}/guest/", {**form, "name": "A" * 30}).status_code == 422
        photo = {"photo": ("p.png", bytes(700_000))}
        assert session.post(f"{base}/guest/", form, files=photo).text == "welcome Ada 700000"
        assert session.post(f"{base}/guest/", {**form, "x": "y" * 1_001_000}).status_code in (400, 413)
        file = session.get(f"{base}/static/app.py")
        assert (file.text, file.headers["content-length"]) == (DJANGO, str(len(DJANGO)))
        assert session.get(f"{base}/stream/").text == "".join(map(str, range(100)))
        assert session.get(f"{base}/who/J%C3%BCrgen/").json() == {"name": "Jürgen", "secure": False}
        assert session.get(f"{base}/who/me", allow_redirects=False).headers["location"] == "/who/me/"
        assert session.get(f"{base}/missing").status_code == 404


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="+".join)
def test_flask_socketio(server, tmp_path, transports):
    pytest.importorskip("flask_socketio", reason="Flask-SocketIO is not installed: it is NOT tested on gkore")
    pytest.importorskip("websocket", reason="websocket-client is not installed: Flask-SocketIO is NOT tested on gkore")
    up = hosted(server, tmp_path, "talk", SOCKETIO, workers=1)
    assert up.get("/").text == "a page"
    one, two = client(up, "one", transports), client(up, "two", transports)
    try:
        assert one.receive(DEADLINE) == ["hello", f"one {up.workers[0]}"]
        assert two.receive(DEADLINE) == ["hello", f"two {up.workers[0]}"]
        assert one.call("say", "to all ü", timeout=DEADLINE) == "heard"
        assert one.receive(DEADLINE) == two.receive(DEADLINE) == ["said", "to all ü"]
        two.emit("later", {"in": "background"})
        assert one.receive(DEADLINE) == two.receive(DEADLINE) == ["said", {"in": "background"}]
        assert one.call("shout", b"\x00\x01\x02", timeout=DEADLINE) == b"\x02\x01\x00"
    finally:
        one.disconnect()
        two.disconnect()


def test_flask_socketio_over_workers(server, tmp_path, redis):
    """Its own message queue carries what one worker's client says to the other's.

    It is made in each worker: before the fork both would get one name, and take the other's messages for their own.
    """
    pytest.importorskip("flask_socketio", reason="Flask-SocketIO is not installed: it is NOT tested on gkore")
    pytest.importorskip("websocket", reason="websocket-client is not installed: Flask-SocketIO is NOT tested on gkore")
    late = """
socketio = SocketIO()
def kore_worker_configure():
    socketio.init_app(app, async_mode="gevent", message_queue=os.environ["QUEUE"])
"""
    code = re.sub("(?m)^socketio = .*$", late, SOCKETIO)
    up = hosted(
        server, tmp_path, "talk", code, f"python_import {tmp_path}/talk.py\n", workers=2, env={"QUEUE": redis.url}
    )
    clients = {}
    while len(clients) < 2:  # until both workers have one
        made = client(up, "x", ["websocket"])
        _, worker = made.receive(DEADLINE)[1].split()
        if worker in clients:
            made.disconnect()
        else:
            clients[worker] = made
    one, two = clients.values()
    try:
        until(lambda: numbers(redis) == 2, "both workers to listen")
        two.emit("later", "over there")
        assert one.receive(DEADLINE) == two.receive(DEADLINE) == ["said", "over there"]
    finally:
        one.disconnect()
        two.disconnect()


def numbers(redis) -> int:
    """How many listen to Flask-SocketIO's channel."""
    return pytest.importorskip("redis").Redis.from_url(redis.url).pubsub_numsub("flask-socketio")[0][1]


def client(up: Server, name: str, transports: list[str]):
    socketio = pytest.importorskip("socketio")
    made = socketio.SimpleClient()
    made.connect(f"http://127.0.0.1:{up.port}/?name={name}", transports=transports, wait_timeout=DEADLINE)
    return made
