"""The demo site: every handler uses only what Kore's own Python API has."""

from hashlib import sha256
from html import escape
from pathlib import Path

import kore

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def onload(action):
    if action == kore.MODULE_LOAD:
        kore.log(kore.LOG_INFO, "the demo site is loaded")
    return kore.RESULT_OK


def answer(req, title, body):
    req.response_header("content-type", "text/html; charset=utf-8")
    req.response(200, PAGE.replace("{title}", escape(title)).replace("{body}", body).encode())


def plain(req, text):
    req.response_header("content-type", "text/plain; charset=utf-8")
    req.response(200, text.encode())


# -- validators


def one_to_ten(req, value):
    return value.isascii() and value.isdecimal() and 1 <= int(value[:3]) <= 10


# -- handlers


def index(req):
    answer(req, "gkore", INDEX)


def hello(req):
    plain(req, "hello world\n")


async def slow(req):
    started = kore.time()
    await kore.suspend(500)
    plain(req, f"waited {kore.time() - started} ms; the worker served others meanwhile\n")


def greet(req):
    req.populate_get()
    name = req.argument("name") or "stranger"
    times = int(req.argument("times") or 1)
    plain(req, f"Hello, {name}!\n" * times)


def square(req, number):
    plain(req, f"{number} squared is {int(number) ** 2}\n")


def form(req):
    answer(req, "A form", FORM)


def submit(req):
    req.populate_post()
    name, text = req.argument("name"), req.argument("text")
    if name is None or text is None:
        answer(req, "Not quite", "<p>A name made of letters and some text, please.</p>" + FORM)
    else:
        answer(req, f"Thank you, {name}", f"<p>You wrote:</p><blockquote>{escape(text)}</blockquote>" + BACK)


def upload_form(req):
    answer(req, "A file", UPLOAD)


def upload(req):
    req.populate_multi()
    file = req.file_lookup("file")
    if file is None:
        answer(req, "No file", "<p>Choose one, please.</p>" + UPLOAD)
        return
    size, seen = 0, sha256()
    while True:
        length, data = file.read(65536)
        if not length:
            break
        size += length
        seen.update(data)
    answer(req, file.filename, f"<p>{size} bytes, SHA-256 <code>{seen.hexdigest()}</code></p>" + BACK)


# -- pages

BACK = '<p><a href="/">back</a></p>'
INDEX = """
<p class="lead">This page came from a Python handler, on one of several worker processes.</p>
<ul class="cards">
  <li><a href="/hello">/hello</a> a plain function: bytes, and done</li>
  <li><a href="/slow">/slow</a> <code>async def</code>: waits half a second, keeps nobody waiting</li>
  <li><a href="/greet?name=Ada&amp;times=3">/greet?name=Ada&amp;times=3</a> parameters, validated by the conf</li>
  <li><a href="/greet?name=%3Cb%3E&amp;times=99">/greet?name=&lt;b&gt;&amp;times=99</a> the same, with values that
  don't pass: the handler never sees them</li>
  <li><a href="/square/12">/square/12</a> a regular expression; its group is an argument</li>
  <li><a href="/form">/form</a> a form, posted back</li>
  <li><a href="/upload">/upload</a> a file, read in pieces</li>
  <li><a href="/chat">/chat</a> websockets: two tabs talk, on whichever workers they are</li>
  <li><a href="/nothing">/nothing</a> a path without a route: 404</li>
</ul>
<p>Handlers: <code>etc/demo/handlers.py</code>. Routes and validators: <code>etc/kore.conf</code>.</p>
"""
UPLOAD = (
    """
<form method="post" action="/upload" enctype="multipart/form-data">
  <label>File, up to 10 MiB <input type="file" name="file" required></label>
  <button>Send</button>
</form>
"""
    + BACK
)
FORM = (
    """
<form method="post" action="/form">
  <label>Name <input name="name" maxlength="41" required></label>
  <label>Text <textarea name="text" rows="4" maxlength="500" required></textarea></label>
  <button>Send</button>
</form>
"""
    + BACK
)
