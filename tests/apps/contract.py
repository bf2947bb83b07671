"""The examples of Kore 3.2's Python reference, as they stand there but for obvious typos, which are noted.

What an example leaves open (where it stands, what it prints to) is filled in around it.
"""

# ruff: noqa
# fmt: off
import json
import os
import socket
import traceback

import kore


def spell(value):
    return str(value).encode()


# kore.log


def log_example(req):
    kore.log(kore.LOG_INFO, 'this is a log string from a worker process')
    req.response(200, b'')


# kore.timer. Typo there: "kore.TIMER\_ONESHOT".

called = []


def timer_example(req):
    def callback():
        called.append("called")

    mytimer = kore.timer(callback, 100, kore.TIMER_ONESHOT)

    # Stop the timer.
    mytimer.close()
    req.response(200, b'')


def timer_left_alone(req):
    def callback():
        called.append("called")

    mytimer = kore.timer(callback, 10, kore.TIMER_ONESHOT)
    req.response(200, spell(mytimer is not None))


def timer_called(req):
    req.response(200, spell(len(called)))


# kore.proc


async def proc_example(req):
	proc = kore.proc("ls -l /tmp")

	try:
		stdout = proc.recv(8192)
		retcode = proc.reap()
		req.response(200, stdout)
	except TimeoutError:
		proc.kill()
		print("process timed out")
		req.response(500, b'')


async def proc_late(req):
	proc = kore.proc("sleep 600", 50)

	try:
		stdout = proc.recv(8192)
		retcode = proc.reap()
		req.response(200, stdout)
	except TimeoutError:
		proc.kill()
		print("process timed out")
		req.response(500, b'')


# kore.fatal


def fatal_example(req):
    kore.fatal('worker going dead')


# kore.tracer


def tracer(etype, value, tb):
	traceback.print_exception(etype, value, tb)


def kore_parent_configure(args):
	kore.tracer(tracer)


def raises(req):
    raise KeyError("for the tracer")


# kore.task_create, kore.gather


def coro(id):
	print("i am coro %d" % id)


def kore_worker_configure():
	kore.task_create(coro(1))
	kore.task_create(coro(2))
	register()


async def gather_example(req):
	results = kore.gather(coro(1), coro(2))

	for result in results:
		if isinstance(result, Exception):
			raise result
		print("result is %s" % result)

	req.response(200, b'')


# kore.suspend


async def suspend_example(req):
	await kore.suspend(1000)
	req.response(200, b'')


# kore.register_database and req.pgsql. The reference's connection string is "host=/tmp dbname=hello".


def register():
    kore.register_database("db", os.environ["CONTRACT_DSN"])


async def myquery(req):
	result = await req.pgsql("db", "SELECT * FROM pg_delay(10)")
	req.response(200, json.dumps(result).encode("utf-8"))


# req.cookie. The comment there is the whole body of the if.


def cookie_example(req):
    req.populate_cookies()
    cookie = req.cookie("my_session")
    if cookie != None:
        # use cookie value to do things.
        req.response(200, cookie.encode())
    else:
        req.response(200, b'none')


# req.response


def response_example(req):
	req.response(200, b'ok')


# req.argument


def argument_example(req):
    req.populate_get()
    id = req.argument("id")
    if id != None:
        # got an id from somewhere
        req.response(200, id.encode())
    else:
        req.response(200, b'none')


# req.body_read and req.file_lookup. Typo there: "try" without a colon.


def body_read_example(req):
	if req.method == kore.HTTP_METHOD_POST:
		try:
			length, body = req.body_read(1024)
			# do stuff with the body.
			req.response(200, b'%d %s' % (length, body))
		except:
			kore.log(kore.LOG_INFO, "some error occurred")
			req.response(500, b'')


def file_lookup_example(req):
	if req.method == kore.HTTP_METHOD_POST:
		req.populate_multi()
		try:
			file = req.file_lookup("myfile")
			length, data = file.read(1024)
			# do stuff with the data .
			req.response(200, b'%d %s' % (length, data))
		except:
			kore.log(kore.LOG_INFO, "some error occurred")
			req.response(500, b'')


# req.request_header, req.response_header


def myhandler(req):
	xrequest = req.request_header("x-request")
	if xrequest != None:
		req.response_header("x-response", xrequest)

	req.response(200, b'hello world')


# req.websocket_handshake, kore.websocket_broadcast. Typo there: the function registered is called "onmsg".


def onconnect(c):
	kore.log(kore.LOG_INFO, "%s: connected" % c)


def onmsg(c, op, data):
	kore.websocket_broadcast(c, op, data, kore.WEBSOCKET_BROADCAST_GLOBAL)


def ondisconnect(c):
	kore.log(kore.LOG_INFO, "%s: disconnected" % c)


def ws_connect(req):
	req.websocket_handshake("onconnect", "onmsg", "ondisconnect")


# Sockets. There the port is 3332, the path /var/run/socket.sock, and C's printf.


async def page(req):
    port = int(req.request_header("x-port"))
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM |
                                         socket.SOCK_NONBLOCK)

    # Wrap the socket in a Kore object.
    ksock = kore.socket_wrap(sock)

    # Connect and send some data.
    await ksock.connect("127.0.0.1", port)
    await ksock.send("hello world")

    # Read a response.
    response = await ksock.recv(1024)

    ksock.close()
    sock.close()
    req.response(200, response)


async def recv_example(req):
    one, two = socket.socketpair()
    sock = kore.socket_wrap(one)
    said = []
    # Use optional timeout argument
    try:
        data = await sock.recv(1024, 10)
    except TimeoutError as e:
        said.append("timed out reading (%s)" % e)
    two.send(b"data")
    two.close()
    for _ in range(2):
        data = await sock.recv(1024)
        if data is None:
            said.append("eof!")
        else:
            said.append("received %s" % data)
    sock.close()
    one.close()
    req.response(200, json.dumps(said).encode())


async def datagram_examples(req):
    original = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    original.bind(("127.0.0.1", 0))
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    sock = kore.socket_wrap(original)
    # Will return when all bytes are sent.
    await kore.socket_wrap(other).sendto("127.0.0.1", str(original.getsockname()[1]), "Hello world")
    ip, port, data = await sock.recvfrom(1024)
    if data is None:
        print("eof!")
    else:
        # There without await, which sends nothing.
        await sock.sendto(ip, port, data)
    back = await kore.socket_wrap(other).recv(1024)
    original.close()
    other.close()
    req.response(200, back)


async def accept_example(req):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    async def serve():
        sock = kore.socket_wrap(listener)
        conn = await sock.accept()
        await conn.send("welcome")
        conn.close()

    async def ask():
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock = kore.socket_wrap(plain)
        # AF_INET socket.
        await sock.connect("127.0.0.1", listener.getsockname()[1])
        data = await sock.recv(1024)
        sock.close()
        plain.close()
        return data

    _, data = await kore.gather(serve(), ask())
    listener.close()
    req.response(200, data)


async def unix_example(req):
    path = os.path.join(os.getcwd(), "socket.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    async def serve():
        conn = await kore.socket_wrap(listener).accept()
        await conn.send("welcome")
        conn.close()

    async def ask():
        plain = socket.socket(socket.AF_UNIX)
        sock = kore.socket_wrap(plain)
        # AF_UNIX socket.
        await sock.connect(path)
        data = await sock.recv(1024)
        sock.close()
        plain.close()
        return data

    _, data = await kore.gather(serve(), ask())
    listener.close()
    req.response(200, data)


# Locks

# Create the lock
lock = kore.lock()
inside = []


async def lock_example(req):
	# Only allow one request at a time to this handler.
	async with lock:
		# do things
		inside.append(1)
		await kore.suspend(5)
		alone = len(inside) == 1
		inside.pop()
		req.response(200, b'ok' if alone else b'crowded')


# Queues

queue = kore.queue()


def push_example(req):
    d = {
        "foo": "bar"
    }

    queue.push(d)
    req.response(200, b'')


async def pop_example(req):
    d = await queue.pop()
    req.response(200, json.dumps(d).encode())


# Processes


async def process_examples(req):
    proc = kore.proc("cat")
    await proc.send(b"data")
    data = await proc.recv(1024)
    proc.close_stdin()
    end = await proc.recv(1024)
    retcode = proc.reap()
    other = kore.proc("sleep 600")
    other.kill()
    req.response(200, json.dumps([data.decode(), end, retcode, other.reap()]).encode())


# Getters and constants


def getters(req):
    constants = """LOG_INFO LOG_NOTICE RESULT_OK RESULT_RETRY RESULT_ERROR MODULE_LOAD MODULE_UNLOAD TIMER_ONESHOT
        CONN_PROTO_HTTP CONN_PROTO_UNKNOWN CONN_PROTO_WEBSOCKET CONN_STATE_ESTABLISHED HTTP_METHOD_GET HTTP_METHOD_PUT
        HTTP_METHOD_HEAD HTTP_METHOD_POST HTTP_METHOD_DELETE HTTP_METHOD_OPTIONS HTTP_METHOD_PATCH""".split()
    found = {name: getattr(kore, name) for name in constants}
    found |= {
        "host": req.host,
        "agent": req.agent,
        "path": req.path,
        "body": req.body.decode(),
        "method": req.method,
        "body_path": req.body_path,
        "connection": req.connection.addr,
    }
    req.response(200, json.dumps(found).encode())
