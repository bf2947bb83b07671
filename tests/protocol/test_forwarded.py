"""Clients behind proxies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkore.protocol.forwarded import HOPS_MAX, Client, Proxies, accept_request_id, find_client

PROXIES = Proxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "unix"])
PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::ffff:10.1.2.3", True),
        ("", True),
        ("nonsense", False),
        ("fe80::1%eth0", False),
    ],
)
def test_trust(address, trusted):
    assert PROXIES.trust(address) is trusted


def test_nobody_is_trusted_by_default():
    assert not Proxies([]).trust("127.0.0.1")
    assert not Proxies([]).trust("")


@pytest.mark.parametrize("network", ["10.0.0.1/8", "localhost", "10.0.0.0/33", "::/129", ""])
def test_bad_networks(network):
    with pytest.raises(ValueError):
        Proxies([network])


def test_a_stranger_is_the_client_whatever_it_says():
    client = find_client("203.0.113.9", PROXIES, ["for=1.1.1.1;proto=https"], ["1.1.1.1"], ("https", "evil.example"))
    assert client == Client("203.0.113.9")


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9,10.9.9.9 ,\t192.0.2.7"], "203.0.113.9"),
        (["10.9.9.9"], "10.9.9.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["2001:db9::5"], "2001:db9::5"),
        (["[2001:db9::5]"], "2001:db9::5"),
        (["[2001:db9::5]:4711"], "2001:db9::5"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, unknown"], PEER),
        (["203.0.113.9, 10.9.9.9, "], PEER),
        (["203.0.113.9, junk, 10.9.9.9"], "10.9.9.9"),
        (["203.0.113.999"], PEER),
        (["fe80::1%eth0"], PEER),
        ([""], PEER),
        ([", ".join(["203.0.113.9"] + ["10.9.9.9"] * HOPS_MAX)], "10.9.9.9"),
    ],
)
def test_x_forwarded_for_from_the_right(header, address):
    assert find_client(PEER, PROXIES, [], header).address == address


@pytest.mark.parametrize(
    ("others", "scheme", "host"),
    [
        (("", ""), "", ""),
        (("https", "a.example"), "https", "a.example"),
        (("HTTPS", "a.example:8443"), "https", "a.example:8443"),
        (("http, https", "evil.example, a.example"), "https", "a.example"),
        (("javascript", "a b"), "", ""),
        (("", "[2001:db8::1]:443"), "", "[2001:db8::1]:443"),
        (("https", "a.example\r\nx: y"), "https", ""),
    ],
)
def test_x_forwarded_proto_and_host(others, scheme, host):
    assert find_client(PEER, PROXIES, [], ["203.0.113.9"], others) == Client("203.0.113.9", scheme, host)
    assert find_client(PEER, PROXIES, [], [], others) == Client(PEER, scheme, host)


def test_lists_as_long_as_the_hops_tell_about_the_same_hop():
    client = find_client(PEER, PROXIES, [], ["1.1.1.1, 203.0.113.9, 10.9.9.9"], ("http, https, http", ""))
    assert client == Client("203.0.113.9", "https")


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (["for=203.0.113.9"], Client("203.0.113.9")),
        (["For=203.0.113.9;Proto=HTTPS;Host=a.example"], Client("203.0.113.9", "https", "a.example")),
        (['for="203.0.113.9:4711" ; by=10.0.0.1'], Client("203.0.113.9")),
        (['for="[2001:db9::5]:4711";proto=http'], Client("2001:db9::5", "http")),
        (['for="203.0.113.\\9"'], Client("203.0.113.9")),
        (["for=1.1.1.1, for=203.0.113.9;proto=https"], Client("203.0.113.9", "https")),
        (["for=1.1.1.1", "for=203.0.113.9", "for=10.9.9.9"], Client("203.0.113.9")),
        (['for="1.1.1.1, for=203.0.113.9'], Client("203.0.113.9")),
        (["for=203.0.113.9, for=unknown"], Client(PEER)),
        (["for=203.0.113.9, for=_hidden"], Client(PEER)),
        (["for=203.0.113.9;for=1.1.1.1"], Client(PEER)),
        (["for=203.0.113.9;host"], Client(PEER)),
        (["for=2001:db9::5"], Client(PEER)),
        (["proto=https"], Client(PEER)),
        (['for="'], Client(PEER)),
        ([""], Client(PEER)),
    ],
)
def test_forwarded(header, client):
    assert find_client(PEER, PROXIES, header, []) == client


def test_both_headers_must_agree():
    assert find_client(PEER, PROXIES, ["for=203.0.113.9;proto=https"], ["203.0.113.9"]).scheme == "https"
    assert find_client(PEER, PROXIES, ["for=1.1.1.1"], ["203.0.113.9"]) == Client(PEER)
    assert find_client(PEER, PROXIES, ["for=203.0.113.9"], ["1.1.1.1"]) == Client(PEER)


def test_behind_a_unix_socket():
    assert find_client("", PROXIES, [], ["203.0.113.9"]).address == "203.0.113.9"


@pytest.mark.parametrize("value", ["a", "4f9-A_b.c~+/=:@", "x" * 128])
def test_good_request_ids(value):
    assert accept_request_id(value) == value


@pytest.mark.parametrize("value", ["", "a b", 'a"', "a\r\nb", "ä", "x" * 129, "a\n"])
def test_bad_request_ids(value):
    assert accept_request_id(value) == ""


@given(st.lists(st.text()), st.lists(st.text()), st.tuples(st.text(), st.text()))
def test_no_text_raises(forwarded, x_for, others):
    find_client(PEER, PROXIES, forwarded, x_for, others)
    find_client(PEER, PROXIES, [f'for="{text}"' for text in forwarded], [])
