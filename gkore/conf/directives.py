"""THE TABLE: one row a directive, of every Kore since 3.2 and of gkore's own.

Derived from the rows: what the reader checks, the settings and ``kore.config.NAME``, ``gkore --help DIRECTIVE``,
``--print-config``, docs/directives.md and the example conf. Adding a setting touches one row here and whoever obeys it.
Defaults and ranges are those of Kore's config.c, http.c, worker.c, websocket.c and pgsql.c.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gkore.conf import kinds
from gkore.conf.kinds import BIT, CARRIER, PATH, TEXT, YES_NO, choice, number
from gkore.conf.row import Argument, Context, Row, listing, option, row, setting

U16, U32, U63 = 2**16 - 1, 2**32 - 1, 2**63 - 1


def usable_cpus() -> int:
    """CPUs that this process may run on, fewer than the machine has in a container; at most 255, as Kore."""
    return min(len(os.sched_getaffinity(0)), 255)


def media_types(old: Any, values: Mapping[str, Any]) -> Any:
    return {**old, **{extension.lstrip("."): values["type"] for extension in values["extension"]}}


# fmt: off
STRUCTURE = (
    # files and modules
    row("include", "top server domain route params authentication privsep", "path:place",
        "Read another file in place; relative to the working directory, or else to this file."),
    row("python_path", "top", "directory:place", "Append a directory to sys.path; relative as for include."),
    row("python_import", "top", "file [onload]",
        "Import a Python file or package; relative as for include. onload(kore.MODULE_LOAD) runs in every worker."),
    row("load", "top", "file [onload]", "Load a native module of Kore's.",
        refusal="gkore runs no native modules: port it to Python and name it with python_import"),
    row("pledge", "top", "word...", "The sandbox of OpenBSD.", refusal="gkore runs on Linux: remove this line"),
    # servers
    row("server", "top", "name",
        "A group of addresses; speaks TLS unless it says `tls no`.", since="4.0", opens="server"),
    row("bind", "top server", "host port [callback]",
        "Listen on an address; at the top (Kore 3) for the server `default`. callback(connection) sees each client."),
    row("unix", "top server", "path:file [callback]",
        "Listen on a UNIX socket; a leading @ makes an abstract name.", aliases=("bind_unix",)),
    row("tls", "server", "yes|no", "Whether this server speaks TLS; default yes.", since="4.0"),
    row("proxy_protocol", "server", "yes|no",
        "Expect the PROXY protocol from every client.", since="gkore"),
    # processes
    row("privsep", "top", "process", "What one kind of process may keep.", since="4.2", opens="privsep"),
    row("runas", "top privsep", "user", "The user that a process becomes; at the top: the workers."),
    row("root", "top privsep", "directory:place",
        "The directory that a process is confined to; at the top: the workers.", aliases=("chroot",)),
    row("skip", "privsep", "chroot...", "What this process does not do.", since="4.2"),
    row("keymgr_runas", "top", "user", "As runas in `privsep keymgr`."),
    row("keymgr_root", "top", "directory:place", "As root in `privsep keymgr`."),
    row("acme_runas", "top", "user", "As runas in `privsep acme`.", since="4.0"),
    row("acme_root", "top", "directory:place", "As root in `privsep acme`.", since="4.0"),
    # validators and authentication
    row("validator", "top", "name regex|function expression",
        "A named check: `regex EXPRESSION` (searched: anchor it yourself) or `function NAME`."),
    row("authentication", "top", "name", "A named way to tell who may come in.", opens="authentication"),
    row("authentication_type", "authentication", "cookie|header|request", "Where the credential is."),
    row("authentication_value", "authentication", "name", "The name of the cookie or header."),
    row("authentication_validator", "authentication", "validator:name", "The validator that looks at the credential."),
    row("authentication_uri", "authentication", "uri", "Where to send (302) who may not come in; without it: 403."),
    # domains
    row("domain", "top", "name", "A virtual host: a name, or a shell pattern such as *.example.com.", opens="domain"),
    row("attach", "domain", "server:name",
        "The server of this domain; not needed when there is only one.", since="4.0"),
    row("certfile", "domain", "file:pem", "The certificate chain, PEM."),
    row("certkey", "domain", "file:pem", "The private key, PEM."),
    row("acme", "domain", "yes|no", "Get the certificate by ACME (Let's Encrypt), and renew it.", since="4.0"),
    row("client_verify", "domain", "ca [crl]", "Ask clients for a certificate signed by one of these."),
    row("client_verify_depth", "domain", "depth", "The longest chain of a client's certificate; default 1."),
    row("accesslog", "domain", "file:log", "Log every request of this domain; - is stdout."),
    row("redirect", "domain", "path:regex status target",
        "Answer with 3xx before any route is tried; target may hold $1..$14 and $qs.", since="4.0"),
    row("return", "domain", "path:regex status:failure",
        "Answer with 4xx or 5xx before any route is tried.", since="4.0"),
    row("filemap", "domain", "url:folder directory [authentication]",
        "Serve the files of a directory below a path."),
    # routes
    row("route", "domain", "path:route [handler] [authentication]",
        "A path (compared) or a regular expression (searched), as a block or, as in Kore 4.0, in one line.",
        since="4.0", opens="route", braces=False),
    row("static", "domain", "path:exact handler [authentication]", "A path, compared, as in Kore 3."),
    row("dynamic", "domain", "path:plain handler [authentication]",
        "A regular expression, searched, as in Kore 3: its groups are not handed to the handler."),
    row("restrict", "domain", "path:declared method...",
        "The only methods of a route that `static` or `dynamic` declared."),
    row("params", "domain", "[qs:]method:sourced path:declared",
        "The parameters of a route that `static` or `dynamic` declared, for one method.", opens="params"),
    row("handler", "route", "function", "The function that answers.", since="4.2"),
    row("methods", "route", "method...", "The only methods of this route; default all.", since="4.2"),
    row("validate", "route", "[qs:]method:sourced name validator:name",
        "A parameter for one method and the validator of its values.", since="4.2"),
    row("validate", "params", "name validator:name", "A parameter and the validator of its values."),
    row("authenticate", "route", "authentication", "Who may come in.", since="4.2"),
    row("on_headers", "route", "function",
        "Called with the request when its headers are there.", since="4.2"),
    row("on_body_chunk", "route", "function",
        "Called with each piece of the body, which is then not kept.", since="4.2"),
    row("on_free", "route", "function", "Called with the request when it is over.", since="4.2"),
    row("wsgi", "route", "module:application:wsgi",
        "The WSGI application that answers.", since="gkore"),
    option("body_max", "route", number(0, None), "Most bytes of a body."),
    option("timeout", "route", number(1, 86400),
        "Seconds for the handler, then 503; and for each piece of a streamed body, then it is cut off."),
    option("concurrency", "route", number(1, U32),
        "Requests in the handler at once, per worker; more get 503."),
    option("rate", "route", kinds.RATE, "Requests per client address, per worker; more get 429."),
    option("openapi", "domain", kinds.EXACT_PATH,
        "Serve this domain's description as OpenAPI there, and to browsers a page to try it."),
)

SETTINGS = (
    # reading
    setting("config_strict", YES_NO, True,
        "Whether unknown and misplaced directives are mistakes; Kore ignores them.", since="gkore"),
    Row("file", (), (Argument("path", PATH),),
        "The conf to read after the script; only as kore.config.file.", "4.0", setting=True, default=""),
    setting("deployment", choice("production", "docker", "dev", "development"), "",
            "dev: foreground, no chroot, no runas. docker: foreground. production: daemonize.", since="4.2"),
    # the log
    setting("logfile", kinds.LOG_PATH, "", "Append the log to this file.", since="4.2"),
    setting("log_format", choice("kore", "json", "text"), "kore",
        "The shape of the log's lines.", since="gkore"),
    setting("accesslog_format", choice("kore", "combined", "json"), "kore",
        "The shape of access logs' lines.", since="gkore"),
    # workers
    setting("workers", number(1, 255), usable_cpus, "Worker processes; default: one for each CPU that gkore may use."),
    setting("worker_max_connections", number(1, U32), 512,
        "Connections that a worker holds; beyond it those that wait longest make room."),
    setting("worker_rlimit_nofiles", number(1, U32), 768, "Open files of a worker, beside those open at its start."),
    setting("worker_accept_threshold", number(1, U32), 16, "Connections accepted in one turn of a worker's loop."),
    setting("worker_death_policy", choice("restart", "terminate"), "restart",
        "What the death of a worker means: a new one, or the end of all.", since="3.3"),
    setting("worker_set_affinity", BIT, True, "Whether workers are pinned to CPUs, in turn."),
    listing("worker_no_accept", number(1, 255), "worker", "Workers, by number, that accept no clients.", since="4.3"),
    setting("worker_boot_time", number(1, 86400), 300,
        "Seconds that a worker's set-up may take; then it is ended with a trace.", since="gkore"),
    setting("worker_drain_time", number(0, 86400), 30,
        "Seconds that requests in flight get at stop and reload.", since="gkore"),
    setting("worker_block_warn", number(0, U32), 1000,
        "Milliseconds after which a worker's loop counts as blocked; 0: never.", since="gkore"),
    setting("worker_timeout", number(0, U32), 30,
        "Seconds after which a blocked worker is replaced; 0: never.", since="gkore"),
    setting("max_requests", number(0, U63), 0,
        "Requests after which a worker is replaced; 0: never.", since="gkore"),
    setting("worker_rss_max", number(0, U63), 0,
        "Bytes of memory after which a worker is replaced; 0: never.", since="gkore"),
    setting("socket_backlog", number(0, U32), 5000, "Connections that may wait to be accepted, per listening socket."),
    setting("pidfile", PATH, "kore.pid", "Where the master writes its process id."),
    setting("control", PATH, "",
        "The control socket; default: beside the pidfile.", since="gkore"),
    setting("metrics", kinds.ADDRESS, "",
        "Serve metrics for Prometheus at this address.", since="gkore"),
    setting("otel", kinds.OTEL, False,
        "Make an OpenTelemetry span of each request that a route's handler answers.", since="gkore"),
    setting("seccomp", YES_NO, False,
        "Confine workers to the system calls of a web application; implied by koreapp.seccomp.", since="gkore"),
    setting("seccomp_tracing", YES_NO, False,
        "Note forbidden system calls in the kernel's log instead of ending the worker.", since="4.0"),
    setting("landlock", YES_NO, False,
        "Let workers reach only the files that a web application needs.", since="gkore"),
    listing("landlock_read", kinds.PATH_WORD, "path",
        "What workers may read besides, with `landlock yes`.", since="gkore"),
    listing("landlock_write", kinds.PATH_WORD, "path",
        "What workers may read and write besides, with `landlock yes`.", since="gkore"),
    setting("task_threads", number(0, 255), 2, "Threads for tasks of C modules: accepted, without effect."),
    # TLS
    setting("tls_version", choice("both", "1.3", "1.2"), "both", "The versions of TLS to speak."),
    setting("tls_cipher", TEXT, "", "Ciphers, in OpenSSL's notation."),
    setting("tls_dhparam", kinds.FILE, "", "Diffie-Hellman parameters, PEM; not needed."),
    setting("rand_file", PATH, "", "A seed for random numbers: accepted, without effect (the kernel's are used)."),
    setting("acme_email", kinds.WORD, "", "Whom the ACME provider may write to.", since="4.0"),
    setting("acme_provider", kinds.HTTPS, "https://acme-v02.api.letsencrypt.org/directory",
        "The directory of the CA that gives certificates to `acme yes`.", since="4.0"),
    setting("acme_ca", kinds.FILE, "",
        "Who vouches for the provider itself, PEM; default: the system's authorities.", since="gkore"),
    setting("acme_directory", PATH, "acme",
        "Where keys and certificates of `acme yes` are; relative to root in `privsep acme` or $STATE_DIRECTORY.",
        since="gkore"),
    # HTTP
    setting("http_header_max", number(1, U16), 8192, "Bytes of request line and headers; Kore's default is 4096."),
    setting("http_headers_max", number(1, 10000), 100, "Headers of a request; Kore keeps 23.", since="gkore"),
    setting("http_header_timeout", number(1, U16), 10, "Seconds until a request's headers must be there.", since="3.3"),
    setting("http_body_max", number(0, None), 1024000, "Bytes of a body; 0: no bodies."),
    setting("http_body_timeout", number(1, U16), 60, "Seconds until a request's body must be there.", since="3.3"),
    setting("http_body_disk_offload", number(0, U32), 0,
        "Larger bodies go to a file; 0: never."),
    setting("http_body_disk_path", PATH, "tmp_files", "The directory of those files."),
    setting("http_write_timeout", number(1, U16), 60,
        "Seconds that a client may take nothing of its response.", since="gkore"),
    setting("http_keepalive_time", number(0, U16), 20,
        "Seconds that an idle connection is kept; 0: close after each response."),
    setting("http_hsts_enable", number(0, U63), 31536000,
        "Seconds of strict-transport-security, over TLS; 0: no header."),
    setting("http_request_ms", number(0, U32), 10,
        "Milliseconds of handlers per turn of Kore's loop: accepted, without effect."),
    setting("http_request_limit", number(0, U32), 1000, "Requests alive at once, per worker; more get 503."),
    setting("http_params_max", number(1, 10**6), 1000, "Parameters of a request; Kore keeps 19.", since="gkore"),
    setting("http_cookies_max", number(1, 10**5), 100, "Cookies of a request; Kore keeps 9.", since="gkore"),
    setting("http_server_version", TEXT, "gkore", "The value of the server header.", since="4.0"),
    setting("http_pretty_error", YES_NO, False, "Whether errors without a body get a small page.", since="4.0"),
    setting("http_compress", YES_NO, False,
        "Compress responses for clients that ask for it.", since="gkore", also="domain route"),
    listing("trusted_proxies", kinds.NETWORK, "network",
        "Whose X-Forwarded-For and Forwarded headers are believed.", since="gkore"),
    # static files
    setting("filemap_ext", kinds.WORD, "", "The suffix tried when a file is missing."),
    setting("filemap_index", kinds.WORD, "index.html", "The file that stands for a directory."),
    setting("filemap_follow", YES_NO, False,
        "Whether symbolic links below filemaps may lead out of their directories.", since="gkore"),
    Row("http_media_type", ("top",), (Argument("type", kinds.WORD), Argument("extension", kinds.WORD, many=True)),
        "The content-type of files with these extensions.", setting=True, default=dict, merge=media_types),
    # websockets
    setting("websocket_maxframe", number(0, U32), 16384, "Bytes of a frame from a client."),
    setting("websocket_maxmessage", number(0, U32), 1024000,
        "Bytes of a message in all its frames.", since="gkore"),
    setting("websocket_timeout", number(0, U32), 120, "Seconds that a websocket may be silent."),
    setting("websocket_ping", number(0, U32), 0,
        "Seconds between pings of the server; 0: none.", since="gkore"),
    setting("websocket_compress", YES_NO, False, "Offer permessage-deflate.", since="gkore"),
    setting("websocket_backlog", number(1, U32), 262144,
        "Bytes that may wait for a client who reads slowly.", since="gkore"),
    setting("websocket_slow", choice("close", "drop"), "close",
        "What happens to clients that don't read: closed, or messages dropped.", since="gkore"),
    listing("websocket_origin", kinds.WORD, "origin",
        "Origins that may open websockets; default all.", since="gkore"),
    setting("websocket_bus", CARRIER, "",
        "What carries broadcasts between hosts: redis://HOST or postgres DATABASE.", since="gkore"),
    # others
    setting("pgsql_conn_max", number(0, U16), 2, "Connections per database and worker; 0: no limit."),
    setting("pgsql_queue_limit", number(0, U32), 1000,
        "Queries that may wait for a connection, per worker."),
    setting("pgsql_null", choice("empty", "none"), "empty",
        "What NULL becomes: \"\" as in Kore, or None.", since="gkore"),
    setting("curl_timeout", number(0, U16), 60,
        "Seconds that a request of kore.httpclient may take.", since="3.3"),
    setting("curl_recv_max", number(0, None), 2 * 1024 * 1024,
        "Bytes of a response to kore.httpclient.", since="3.3"),
)
# fmt: on

TABLE: tuple[Row, ...] = STRUCTURE + SETTINGS


def by_name() -> dict[str, list[Row]]:
    """Rows by name and alias; ``validate`` has two, one for each block that it may stand in."""
    index: dict[str, list[Row]] = {}
    for entry in TABLE:
        for name in (entry.name, *entry.aliases):
            index.setdefault(name, []).append(entry)
    return index


ROWS = by_name()
SETTING_ROWS: dict[str, Row] = {entry.name: entry for entry in SETTINGS}


def names_in(context: Context) -> list[str]:
    """The directives that may stand in a context."""
    return [name for name, rows in ROWS.items() if any(context in entry.contexts for entry in rows)]
