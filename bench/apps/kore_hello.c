/*
 * The applications of `kore-c`: what kore_app.py does, as a module in C.
 */
#include <kore/kore.h>
#include <kore/http.h>

static const char BODY[] = "hello world";

int hello(struct http_request *);
int echo(struct http_request *);
void opened(struct connection *);
void heard(struct connection *, u_int8_t, void *, size_t);
void gone(struct connection *);

int
hello(struct http_request *req)
{
	http_response_header(req, "content-type", "text/plain");
	http_response(req, 200, BODY, sizeof(BODY) - 1);
	return (KORE_RESULT_OK);
}

int
echo(struct http_request *req)
{
	kore_websocket_handshake(req, "opened", "heard", "gone");
	return (KORE_RESULT_OK);
}

void
opened(struct connection *c)
{
}

void
heard(struct connection *c, u_int8_t op, void *data, size_t length)
{
	kore_websocket_send(c, op, data, length);
}

void
gone(struct connection *c)
{
}
