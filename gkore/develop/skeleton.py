"""``gkore create``: a project that runs and has a test that passes, in one of three styles."""

from __future__ import annotations

from pathlib import Path

from gkore.errors import UsageError

STYLES = {
    "conf": "a kore.conf and a Python file (Kore 3.2)",
    "app": "one Python file that says it all (Kore 4)",
    "package": "a package with a conf of its own",
}
CONF = """\
# Every directive: gkore --help NAME. What is wrong here: gkore --check -c kore.conf
bind 127.0.0.1 8888
python_import {file}

validator v_name regex ^[[:alpha:]][[:alpha:] '-]{{0,40}}$

domain * {{
    route / {{
        handler hello
        methods get head
        validate get name v_name
    }}
    route /slow {{
        handler slow
        methods get head
    }}
}}
"""
HANDLERS = '''\
import kore


def hello(req: kore.http_request) -> None:
    """Greet somebody by name."""
    req.populate_get()
    req.response(200, f"Hello, {req.argument('name') or 'world'}!\\n")


async def slow(req: kore.http_request) -> None:
    """Wait without keeping others waiting."""
    await kore.suspend(500)
    req.response(200, "Half a second, and the worker served others meanwhile.\\n")
'''
APP = '''\
import kore

kore.server(ip="127.0.0.1", port="8888", tls=False)
kore.domain("*")


@kore.route("/", methods=["get"], get={"name": "^[A-Za-z][A-Za-z '-]{0,40}$"})
def hello(req: kore.http_request) -> None:
    """Greet somebody by name."""
    req.populate_get()
    req.response(200, f"Hello, {req.argument('name') or 'world'}!\\n")


@kore.route("/slow", methods=["get"])
async def slow(req: kore.http_request) -> None:
    """Wait without keeping others waiting."""
    await kore.suspend(500)
    req.response(200, "Half a second, and the worker served others meanwhile.\\n")
'''
TESTS = """\
from pathlib import Path

APP = Path(__file__).parent / "{target}"


def test_handlers_in_this_process(gkore_client):
    client = gkore_client(APP)
    assert client.get("/").text == "Hello, world!\\n"
    assert client.get("/?name=Ada").text == "Hello, Ada!\\n"
    assert client.get("/?name=%3Cb%3E").text == "Hello, world!\\n", "what does not validate never arrives"
    assert client.get("/nothing").status == 404


def test_the_real_server(gkore_server):
    server = gkore_server(APP)
    assert server.get("/").text == "Hello, world!\\n"
"""


def create(name: str, style: str = "conf") -> list[str]:
    """Write the project into the new directory ``name``; what to type next. UsageError when it can't be made."""
    if style not in STYLES:
        raise UsageError(f"there is no style {style}: {', '.join(STYLES)}")
    folder = Path(name)
    package = folder.name.replace("-", "_")
    if not package.isidentifier():
        raise UsageError(f"{name} is no name for a project: letters, digits, - and _")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{name} exists already and is not empty: take another name")
    written = files(style, package)
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [f"made {folder / path}" for path in written] + [f"next: cd {name} && gkore run {target(style, package)}"]


def target(style: str, package: str) -> str:
    return {"conf": "-c kore.conf", "app": "app.py", "package": package}[style]


def files(style: str, package: str) -> dict[str, str]:
    """A project's files: path to text."""
    if style == "app":
        return {"app.py": APP, "test_app.py": TESTS.format(target="app.py")}
    if style == "package":
        return {
            f"{package}/__init__.py": f"from {package}.handlers import hello, slow  # noqa: F401\n",
            f"{package}/handlers.py": HANDLERS,
            f"{package}/kore.conf": CONF.replace("python_import {file}\n", "").format(),
            "test_app.py": TESTS.format(target=package),
        }
    return {
        "kore.conf": CONF.format(file="app.py"),
        "app.py": HANDLERS,
        "test_app.py": TESTS.format(target="kore.conf"),
    }
