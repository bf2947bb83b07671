"""Response heads: what is constant, what is checked."""

from __future__ import annotations

import pytest

from gkore.protocol.response import ResponseHeads, error_page, header_line


def test_prefix_in_kores_order() -> None:
    heads = ResponseHeads("gkore", 20, 31536000)
    names = [line.split(b":")[0] for line in heads.keep[1][200].split(b"\r\n")[1:-1]]
    assert names == [b"server", b"date", b"connection", b"keep-alive", b"strict-transport-security"]
    assert heads.keep[1][200].startswith(b"HTTP/1.1 200 OK\r\n")
    assert heads.close[0][404].startswith(b"HTTP/1.0 404 Not Found\r\n")
    assert b"connection: close\r\n" in heads.close[1][200]


def test_a_tick_forgets_the_date() -> None:
    heads = ResponseHeads("", 20, 0)
    assert 200 not in heads.keep[1]
    assert b"server" not in heads.keep[1][200]
    assert 200 in heads.keep[1]
    heads.tick()
    assert 200 not in heads.keep[1]


@pytest.mark.parametrize("status", [0, 99, 1000, -1, "200", None, 200.0, True])
def test_status_out_of_range(status: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        ResponseHeads("gkore", 20, 0).keep[1][status]  # type: ignore[index]


def test_header_line() -> None:
    assert header_line("X-Thing", "a b") == b"x-thing: a b\r\n"
    assert header_line("x", "\u00e9") == b"x: \xe9\r\n"


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "a\r\nb", "\u00e9", "content-length", "Transfer-Encoding", "connection"]
)
def test_header_names_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header"):
        header_line(name, "x")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=y", "a\nb", "a\rb", "a\0b", "\u20ac", "\x7f"])
def test_header_values_refused(value: str) -> None:
    with pytest.raises(ValueError, match="x-thing"):
        header_line("x-thing", value)


def test_header_lines_are_bounded() -> None:
    from gkore.protocol import response

    for number in range(3000):
        header_line("x", str(number))
    assert len(response.known_lines) <= response.LINES_MAX


def test_error_page() -> None:
    assert b"404 Not Found" in error_page(404)
