"""argv to action; the only file that wires the rooms together.

Order matters at a start. The master takes its functions from the unpatched standard library, so it is imported first;
then everything is patched, then ``import kore`` is made to work, and only then may the user's code be imported.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from getopt import GetoptError, getopt, gnu_getopt
from typing import TYPE_CHECKING

from gkore import __version__, log, remote
from gkore.compiled import is_compiled
from gkore.conf import declarations, manual
from gkore.conf.application import Application, adopt
from gkore.conf.assembly import assemble, summary
from gkore.conf.completion import completion
from gkore.conf.diagnostics import Wrong, nearest, report
from gkore.conf.kinds import number, split_address
from gkore.conf.manpage import command_page, conf_page
from gkore.conf.openapi import openapi
from gkore.conf.overview import overview
from gkore.conf.settings import printed
from gkore.develop import skeleton
from gkore.errors import ConfError, GkoreError, StartError, UsageError
from gkore.protocol.slot import Exit

if TYPE_CHECKING:
    from gkore.master.relief import Relief

HELP = """\
usage: gkore [options] -c kore.conf
       gkore [options] app.py|package [arguments for the application]
       gkore run [options] [-c kore.conf | app.py]        develop: reload on change, tracebacks in the browser
       gkore create NAME [--style conf|app|package]       a new project that runs and has a test
       gkore routes|openapi [-c kore.conf | app.py]       what is served, as a table or as OpenAPI 3.1
       gkore reload|stop|status|dump [-c kore.conf | --control PATH] [--watch] [--json]
       gkore completion bash|zsh; gkore man gkore|kore.conf

  -c, --conf FILE       read this conf
  -t, --check           only check conf and application: 0 fine, 3 not
      --print-config    print every setting and where it came from
      --workers N       this many workers, whatever the conf says
      --bind ADDRESS    listen here instead: ADDR:PORT, :PORT, [::1]:PORT, unix:/path; several times for several
      --control PATH    where the running server's control socket is
  -d, --daemonize       leave the terminal
  -f, --foreground      stay in it, also with `deployment production`
  -n, --no-chroot, -r, --no-runas        don't chroot, don't change the user
  -q, --quiet           log errors only
      --dev             as `deployment dev`: no chroot, no runas, tracebacks in the browser
  -v, --version         print versions
  -h, --help [NAME]     this, or what the directive NAME does

signals: TERM, INT, QUIT stop; HUP reloads; USR1 reopens the logs; USR2 dumps stacks; TTIN, TTOU: one worker more, less
exit status: 0 stopped, 1 the application gave up, 2 wrong usage, 3 the conf, the application or the machine refuses
"""
SHORT = "c:dfhnqrtv"
LONG = {
    "conf=": "c",
    "check": "t",
    "print-config": "print-config",
    "workers=": "workers",
    "bind=": "bind",
    "control=": "control",
    "watch": "watch",
    "json": "json",
    "daemonize": "d",
    "foreground": "f",
    "no-chroot": "n",
    "no-runas": "r",
    "quiet": "q",
    "dev": "dev",
    "version": "v",
    "help": "h",
}
DEVELOPMENT = ("run", "create", "routes", "openapi", "completion", "man")
LETTERS = {f"--{name.rstrip('=')}": letter for name, letter in LONG.items()}


@dataclass(slots=True)
class Order:
    """What the command line asks for."""

    flags: set[str] = field(default_factory=set)
    conf: str = ""
    workers: int = 0
    binds: list[tuple[str, str, str]] = field(default_factory=list)
    script: str = ""
    arguments: list[str] = field(default_factory=list)
    control: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run gkore; the process's exit status (``protocol.slot.Exit``)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in DEVELOPMENT:
        return guarded(lambda: develop(words[0], words[1:]))
    return guarded(lambda: act(parse(words)))


def guarded(action: Callable[[], int], hear: Callable[[str], object] = len) -> int:
    """The exit status of an action; what it refuses is said in one line, or one for each mistake, and to ``hear``."""
    try:
        return action()
    except GkoreError as failure:
        mistakes = failure.mistakes if isinstance(failure, ConfError) else ()
        report(mistakes, sys.stderr)
        say(f"{failure} (gkore --help lists all)" if isinstance(failure, UsageError) else str(failure))
        hear("\n".join([*(mistake.render() for mistake in mistakes), str(failure)]))
        return failure.exit_status
    except KeyboardInterrupt:
        return 130


def say(text: str) -> None:
    print(f"gkore: {text}", file=sys.stderr)


def parse(argv: Sequence[str]) -> Order:
    """The command line, understood. UsageError when it can't be."""
    try:
        options, words = getopt(list(argv), SHORT, list(LONG))
    except GetoptError as failure:
        near = nearest(failure.opt, [name.rstrip("=") for name in LONG]) if len(failure.opt) > 1 else ""
        raise UsageError(failure.msg + (f", did you mean --{near}?" if near else "")) from None
    order = Order(script=words[0] if words else "", arguments=words[1:])
    if words and remote.is_command(words[0]):
        late, order.arguments = getopt(words[1:], SHORT, list(LONG))
        options += late
    for name, value in options:
        letter = LETTERS.get(name, name.lstrip("-"))
        if letter == "c":
            order.conf = value
        elif letter == "control":
            order.control = value
        elif letter == "workers":
            order.workers = checked_workers(value)
        elif letter == "bind":
            order.binds.append(checked_bind(value))
        else:
            order.flags.add(letter)
    return order


def checked_workers(value: str) -> int:
    try:
        return int(number(1, 255).convert(value))
    except Wrong as why:
        raise UsageError(f"--workers: {why.message}, expected {why.expected}") from None


def checked_bind(value: str) -> tuple[str, str, str]:
    try:
        return split_address(value)
    except Wrong as why:
        raise UsageError(f"--bind: {why.message}, expected {why.expected}") from None


def develop(command: str, words: list[str]) -> int:
    """The commands of developers."""
    if command == "create":
        print("\n".join(create(words)))
        return Exit.OK
    if command in ("completion", "man"):
        print(page(command, words[0] if words else ""), end="")
        return Exit.OK
    if "--reload" in words:
        words.remove("--reload")
    order = parse(words)
    if "h" in order.flags:
        return act(order)
    if command == "run":
        return run(words, order)
    if not order.conf and not order.script:
        from gkore.develop.running import found

        here = found()
        order.conf, order.script = (here, "") if here.endswith(".conf") else ("", here)
    application = build(order)
    print(overview(application.site) if command == "routes" else openapi(application), end="")
    return Exit.OK


def run(words: list[str], order: Order) -> int:
    """``gkore run``: import all but the project, then serve it from forked processes."""
    if order.flags & {"d", "t", "print-config"}:
        raise UsageError("run: it stays in the terminal and serves: no -d, --check or --print-config")
    from gkore.develop import running
    from gkore.develop.standin import whereabouts

    def become(told: list[str], relief: Relief) -> int:
        sys.argv[1:] = ["--dev", *told]
        relief.whereabouts = lambda: whereabouts(order.conf, order.binds)
        return guarded(lambda: serve(parse(sys.argv[1:]), relief), relief.refuse)

    return running.run(words, order.conf or order.script, become)


def page(command: str, which: str) -> str:
    """A man page or a shell's completion script."""
    if command == "completion":
        return completion(which, list(LETTERS), [*DEVELOPMENT, *remote.COMMANDS])
    pages = {"gkore": lambda: command_page(HELP), "kore.conf": conf_page}
    if which not in pages:
        raise UsageError(f"man: {' or '.join(pages)}, please: gkore man kore.conf > kore.conf.5")
    return pages[which]()


def create(words: list[str]) -> list[str]:
    """``gkore create``, its words understood."""
    try:
        options, names = gnu_getopt(words, "", ["style="])
    except GetoptError as failure:
        raise UsageError(f"create: {failure.msg}") from None
    if len(names) != 1:
        raise UsageError("create: one name, please: gkore create NAME [--style conf|app|package]")
    return skeleton.create(names[0], dict(options).get("--style", "conf"))


def act(order: Order) -> int:
    """Do what the order asks for."""
    if "h" in order.flags:
        print(manual.help_text(order.script) if order.script else HELP, end="")
        return Exit.OK
    if "v" in order.flags:
        print(versions())
        return Exit.OK
    if remote.is_command(order.script):
        watch, as_json = "watch" in order.flags, "json" in order.flags
        return remote.perform([order.script, *order.arguments], order.conf, order.control, watch, as_json)
    if not order.conf and not order.script and "print-config" not in order.flags:
        here = "; there is a kore.conf here: gkore -c kore.conf" if os.path.isfile("kore.conf") else ""
        raise UsageError(f"nothing to serve: name a conf with -c, or a script{here}")
    near = nearest(order.script, [*DEVELOPMENT, *remote.COMMANDS]) if order.script.isalpha() else ""
    if near and not os.path.exists(order.script):
        raise UsageError(f"{order.script} is neither a command nor a package here, did you mean gkore {near}?")
    return check(order) if order.flags & {"t", "print-config"} else serve(order)


def serve(order: Order, relief: Relief | None = None) -> int:
    """Be the master; ``relief`` is the line to the warm process of ``gkore run``."""
    from gkore.master.image import Image
    from gkore.master.loop import hold, run

    log.print_lines()
    image = Image()
    image.relief = relief
    try:
        image.inherit()
        application = build(order)
        open_log(application)
        advise(application)
        image.heritage = relief.take_over() if relief else image.heritage
    except Exception as failure:
        if image.heritage is None:
            raise
        if isinstance(failure, ConfError):
            report(failure.mistakes, sys.stderr)
        return hold(image, str(failure) if isinstance(failure, GkoreError) else repr(failure))
    from gkore.worker import life

    return run(application, life.run, image)


def check(order: Order) -> int:
    """Only look: at the conf, the application and, in the rehearsal of a reload, at what only its master can do."""
    from gkore.master.image import rehearsing
    from gkore.master.launch import rehearse

    held = rehearsing()
    application = build(order)
    if "print-config" in order.flags:
        print(printed(application.settings), end="")
    else:
        if held is not None:
            advise(application)
            rehearse(application, held)
        print(f"{order.conf or order.script}: fine: {summary(application)}")
    return Exit.OK


def build(order: Order) -> Application:
    """The application that the order names, complete. StartError or ConfError when it can't be had."""
    from gkore.worker.patch import hear_children, patch

    patch()
    from gkore import api

    sys.modules["kore"] = api
    application = adopt(Application([sys.argv[0], *order.arguments], order.script))
    application.hear_children = hear_children
    application.no_chroot, application.no_runas = "n" in order.flags, "r" in order.flags
    application.daemonize, application.foreground = "d" in order.flags, "f" in order.flags
    log.log.quiet = "q" in order.flags
    assemble(application, order.conf, lambda built: override(built, order))
    return application


def override(application: Application, order: Order) -> None:
    """What the command line says wins over the conf."""
    if order.workers:
        application.settings.put("workers", order.workers, "command line")
    if "dev" in order.flags:
        application.settings.put("deployment", "dev", "command line")
    if not order.binds:
        return
    site = application.site
    name = declarations.home(site) or next(iter(site.servers), "")
    server = site.servers[name] if name else declarations.implicit_server(site)
    server.binds.clear()
    for host, port, path in order.binds:
        declarations.add_bind(server, host, port, path)


def open_log(application: Application) -> None:
    log.log.format = application.settings.log_format
    path = application.settings.logfile
    if not path:
        return
    try:
        log.log.open(path)
    except OSError as failure:
        where = application.settings.origin("logfile")
        raise StartError(f"the logfile {path} ({where}) can't be opened: {failure.strerror}") from None


def advise(application: Application) -> None:
    """Say what is allowed but unwise."""
    if os.geteuid() == 0 and not application.no_runas and not application.site.privsep("worker").runas:
        log.notice("running as root: the workers stay root (runas USER in the conf, or -r if that is meant)")


def versions() -> str:
    from importlib.metadata import PackageNotFoundError, version  # a tenth of a start's CPU time, for --version alone

    parts = [f"gkore {__version__}{' (compiled)' if is_compiled() else ''}", f"Python {platform.python_version()}"]
    for package in ("gevent", "httptools", "websockets"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} is missing")
    return ", ".join(parts)
