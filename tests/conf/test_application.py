"""Functions and hooks by name, in both of Kore's ways, and the import of user code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gkore import api
from gkore.conf.application import Application, adopt
from gkore.conf.assembly import assemble, summary
from gkore.conf.loading import ImportFailure, find_object, load
from gkore.errors import ConfError, StartError


def module(name: str, source: str) -> ModuleType:
    made = ModuleType(name)
    exec(source, vars(made))
    return made


@pytest.fixture(autouse=True)
def _import_kore(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "kore", api)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def script(text: str, conf: str = "", name: str = "app.py") -> Application:
    """The application that a script (and a conf) in the working directory makes."""
    Path(name).write_text("import kore\n" + text)
    Path("site.conf").write_text(conf)
    application = adopt(Application(["gkore", "one", "two"], name))
    assemble(application, "site.conf" if conf else "")
    return application


def test_functions_are_found_in_load_order_and_inside_objects() -> None:
    application = Application()
    application.modules += [
        module("a", "def page(req): return 1"),
        module("b", "def page(req): return 2\nclass S:\n def m(self, req): return 3\ns = S()\ns.inner = S()"),
    ]
    assert application.function("page")(None) == 1
    assert application.function("s.m")(None) == 3
    assert application.function("s.inner.m")(None) == 3


def test_a_function_that_is_not_there_names_the_nearest() -> None:
    application = Application()
    application.modules.append(module("a", "def index(req): pass\nclass S:\n def list(self): pass\nshop = S()\nx = 3"))
    with pytest.raises(LookupError, match='no function indx, did you mean "index"'):
        application.function("indx")
    with pytest.raises(LookupError, match=r'did you mean "shop\.list"'):
        application.function("shop.lst")
    with pytest.raises(LookupError):
        application.function("x")
    with pytest.raises(LookupError):
        application.function("free")  # libc has one, and Kore would take it


@pytest.mark.parametrize("name", ["worker_configure", "kore_worker_configure"])
def test_koreapp_comes_before_the_functions_of_kore_3(name: str) -> None:
    application = Application()
    application.modules.append(module("a", "def kore_worker_configure(): return 3"))
    hook = application.hook(name)
    assert hook is not None
    assert hook() == 3
    application.modules.append(module("b", "class K:\n def workerstart(self): return 4\nkoreapp = K()"))
    hook = application.hook(name)
    assert hook is not None
    assert hook() == 4
    assert application.hook("worker_teardown") is None


@pytest.mark.parametrize("signature", ["", "args", "*args", "args, more=None"])
def test_hooks_take_as_many_arguments_as_they_declare(signature: str) -> None:
    application = Application()
    application.modules.append(module("a", f"def kore_parent_configure({signature}): return 'ran'"))
    hook = application.hook("parent_configure")
    assert hook is not None
    assert hook(["gkore"]) == "ran"


def test_addresses_of_kore_parent_configure_get_the_domains() -> None:
    text = "def kore_parent_configure(args):\n    bind('127.0.0.1', '0')\ndef page(req): pass\n"
    Path("old.py").write_text("from gkore.api.site import bind\n" + text)
    Path("site.conf").write_text("python_import old.py\ndomain * {\nstatic / page\n}\n")
    application = adopt(Application())
    assemble(application, "site.conf")
    assert application.site.domains[0].servers == []
    hook = application.hook("parent_configure")
    assert hook is not None
    hook(application.arguments)
    assert application.site.domains[0].servers == ["default"]
    assert [str(bind) for bind in application.site.servers["default"].binds] == ["127.0.0.1:0"]


def test_a_script_configures_before_the_conf_is_read() -> None:
    application = script(
        """
class App:
    def configure(self, args):
        kore.config.workers = 3
        kore.config.http_keepalive_time = 7
        kore.server(ip="127.0.0.1", port="0", tls=False)
        kore.domain("*")
        self.args = args
koreapp = App()

@kore.route("/", methods=["get"])
def index(req): pass
""",
        conf="workers 5\n",
    )
    assert application.settings.workers == 5
    assert application.settings.origin("workers").endswith("site.conf:1")
    assert application.settings.origin("http_keepalive_time") == "kore.config"
    assert application.modules[0].koreapp.args == ["gkore", "one", "two"]
    assert summary(application) == "1 server, 1 domain, 1 route"
    assert [route.handler_name for route in application.site.domains[0].routes] == ["index"]
    with pytest.raises(RuntimeError, match="configured cannot be changed at runtime"):
        application.settings.assign("workers", 3, "kore.config")
    hook = application.hook("parent_configure")
    assert hook is not None
    hook(["again"])
    assert application.modules[0].koreapp.args == ["gkore", "one", "two"], "configure runs once"


def test_a_package_becomes_the_working_directory_and_brings_its_conf() -> None:
    package = Path("shop")
    package.mkdir()
    (package / "__init__.py").write_text("import pages as sibling\nfrom .pages import index\n")
    (package / "pages.py").write_text("def index(req): pass\n")
    (package / "kore.conf").write_text("bind 127.0.0.1 0\ndomain * {\nstatic / index\n}\n")
    application = adopt(Application(["gkore"], "shop"))
    assemble(application)
    assert os.path.basename(os.getcwd()) == "shop"
    assert summary(application) == "1 server, 1 domain, 1 route"


def test_what_kore_parent_configure_gets_wrong_is_said() -> None:
    text = "def kore_parent_configure():\n    for name in 'ab':\n        server(name, ip='::1', port='0', tls=False)\n"
    Path("old.py").write_text("from gkore.api.site import server\n" + text)
    Path("site.conf").write_text("python_import old.py\ndomain * {\n}\n")
    application = adopt(Application())
    assemble(application, "site.conf")
    hook = application.hook("parent_configure")
    assert hook is not None
    with pytest.raises(StartError, match=r"site\.conf:2:1: error: domain '\*' not attached to server"):
        hook(application.arguments)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nix.py", "nix.py does not exist"),
        (".", "is not a package"),
        ("app.txt", "no runtime available to run app.txt"),
    ],
)
def test_a_script_that_is_none_is_one_clear_line(path: str, said: str) -> None:
    Path("app.txt").write_text("")
    with pytest.raises(StartError, match=said):
        assemble(adopt(Application(["gkore"], path)))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1 / 0", 2, "ZeroDivisionError: division by zero"),
        ("def f(:\n", 2, "SyntaxError"),
        ("import sys; sys.exit(3)", 2, "SystemExit: 3"),
        ("kore.config.wrkers = 3", 2, 'there is no setting wrkers, did you mean "workers"'),
        ("kore.config.workers = 'x'", 2, 'ValueError: workers: "x" is not a number'),
        ("\nkore.server(ip='::1')", 3, "missing or invalid 'port' keyword"),
        (
            "class K:\n  def configure(self, args):\n    raise KeyError('k')\nkoreapp = K()",
            4,
            "koreapp.configure raised",
        ),
        ("@kore.route('/')\ndef f(req): pass", 2, "no domains configured, please configure one"),
    ],
)
def test_what_is_wrong_in_a_script_has_a_place(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfError) as caught:
        script(text)
    (mistake,) = caught.value.mistakes
    assert os.path.basename(mistake.place.file) == "app.py"
    assert mistake.place.line == line
    assert said in mistake.message


def test_a_file_named_like_a_module_of_python_is_still_imported() -> None:
    Path("json.py").write_text("mine = True\n")
    assert load("json.py").mine
    import json

    assert json.loads("1") == 1


def test_a_file_is_imported_once() -> None:
    Path("only_once.py").write_text("")
    assert load("only_once.py") is load("only_once.py")


@pytest.mark.parametrize("name", ["edited_twice", "edited_package"])
def test_code_edited_again_within_the_second_is_never_served_from_old_bytecode(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = Path(f"{name}.py") if name == "edited_twice" else Path(name, "__init__.py")
    file.parent.mkdir(exist_ok=True)
    file.write_text("says = 'old'\n")
    written = file.stat().st_mtime_ns
    assert load(str(file if name == "edited_twice" else name)).says == "old"
    del sys.modules[name]
    file.write_text("says = 'new'\n")  # as long as before
    os.utime(file, ns=(written, written))
    assert load(str(file if name == "edited_twice" else name)).says == "new"
    del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("site:app", r"site is Python's own module, .*site.py: give yours another name"),
        ("without_one:app", r"without_one \(.*without_one.py\) has no app that can be called"),
        ("not_there:app", "there is no module not_there"),
    ],
)
def test_an_object_that_is_not_there_is_told_with_where_it_was_looked_for(name: str, said: str) -> None:
    Path("without_one.py").write_text("")
    with pytest.raises(LookupError, match=said):
        find_object(name)


def test_bytecode_of_code_that_has_settled_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    Path("settled.py").write_text("")
    os.utime("settled.py", (1e9, 1e9))
    assert Path(load("settled.py").__cached__).exists()


def test_a_failed_import_leaves_nothing_behind() -> None:
    Path("fails_half_way.py").write_text("done = 1\nraise OSError('disk')\n")
    with pytest.raises(ImportFailure, match="disk"):
        load("fails_half_way.py")
    assert "fails_half_way" not in sys.modules


def test_deployment_and_the_command_line() -> None:
    application = script("", conf="deployment dev\nbind ::1 0\n")
    assert (application.no_chroot, application.no_runas, application.daemonize) == (True, True, False)
    application = script("", conf="deployment production\nbind ::1 0\n")
    assert application.daemonize
