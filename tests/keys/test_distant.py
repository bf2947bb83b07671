"""Handshakes with keys that are elsewhere: every kind and size, and a Python whose OpenSSL is out of reach."""

from __future__ import annotations

import _ctypes
import _ssl
import hashlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkore.conf.certificates import try_key
from gkore.conf.site import Domain
from gkore.keys import distant, openssl
from gkore.keys.openssl import PrivateKey, Unavailable
from gkore.keys.signing import TLS_1_3, Request, Scheme, ask, is_handshake, is_pss, read_request

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
Pair = tuple[Path, Path]
PRIMES = {"3072": 3, "4096": 4, "8192": 5}
"""Many small ones are found far sooner than two large ones."""


def run(*words: object) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def odd_key(directory: Path, bits: int) -> Path:
    """An RSA key whose modulus has just so many bits: OpenSSL itself makes one of 2048 when it is asked for 2049."""
    product, first, second = 0, 0, 0
    while product.bit_length() != bits:
        first, second = (int(run("openssl", "prime", "-generate", "-bits", n)) for n in ((bits + 1) // 2, bits // 2))
        product = first * second
    power = pow(65537, -1, (first - 1) * (second - 1))
    rest = power % (first - 1), power % (second - 1), pow(second, -1, first)
    fields = enumerate((0, product, 65537, power, first, second, *rest))
    text = "asn1=SEQUENCE:key\n[key]\n" + "".join(f"n{place}=INTEGER:{number}\n" for place, number in fields)
    (directory / "key.conf").write_text(text)
    run("openssl", "asn1parse", "-genconf", directory / "key.conf", "-noout", "-out", directory / "key.der")
    key = directory / "odd.key"
    run("openssl", "rsa", "-inform", "DER", "-in", directory / "key.der", "-out", key)
    return key


def pair(directory: Path, kind: str) -> Pair:
    """A certificate and its key: ``ed25519``, ``P-384`` or a number of bits."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    if kind.isdigit() and int(kind) % 1024:
        key = odd_key(directory, int(kind))
    else:
        words = ["EC", "-pkeyopt", f"ec_paramgen_curve:{kind}"] if kind.startswith("P-") else [kind]
        if kind.isdigit():
            words = ["RSA", "-pkeyopt", f"rsa_keygen_bits:{kind}"]
        if kind in PRIMES:
            words += ["-pkeyopt", f"rsa_keygen_primes:{PRIMES[kind]}"]
        run("openssl", "genpkey", "-algorithm", *words, "-out", key)
    run("openssl", "req", "-x509", "-key", key, "-out", cert, "-subj", "/CN=one.test", "-days", 2)
    return cert, key


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """The client's end and the server's, once both are content."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    waiting = list(ends)
    while waiting:
        waiting = [end for end in waiting if not done(end)]
    return ends[0], ends[1]


def done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def client_of(cert: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cert)
    made.minimum_version = made.maximum_version = version
    return made


@pytest.fixture
def signer() -> Iterator[None]:
    before = distant.signer
    yield
    distant.signer = before


KINDS = ["P-256", "P-384", "P-521", "ed25519", "ed448", "2047", "2048", "2049", "2055", "2056", "3072", "4096", "8192"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handshake_asks_for_one_signature_of_a_kind_that_is_signed(tmp_path: Path, signer: None, kind: str) -> None:
    cert, path = pair(tmp_path, kind)
    key, asked = PrivateKey(path.read_bytes()), list[Request]()

    def sign(request: Request) -> bytes:
        heard = read_request(ask(request))
        assert heard == request
        asked.append(request)
        return key.sign(request)

    distant.signer = sign
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    distant.install(server, cert.read_bytes())
    for count, version in enumerate(VERSIONS * 3, 1):
        shake_hands(server, client_of(cert, version))
        assert [request.key for request in asked] == [key.name] * count
    distant.signer = lambda _: b""
    with pytest.raises(ssl.SSLError):
        shake_hands(server, client_of(cert, VERSIONS[1]))


@pytest.mark.parametrize("kind", ["P-256", "ed25519", "2048"])
def test_keys_that_are_here_sign_beside_those_that_are_elsewhere(tmp_path: Path, signer: None, kind: str) -> None:
    cert, path = pair(tmp_path, kind)
    distant.probe(cert.read_bytes(), PrivateKey(path.read_bytes()))
    distant.signer = None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, path)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cert)
    for version in VERSIONS:
        client = client_of(cert, version)
        client.load_cert_chain(cert, path)
        _, end = shake_hands(server, client)
        assert end.getpeercert()


def mask(seed: bytes, length: int, name: str) -> bytes:
    """RFC 8017 B.2.1."""
    size = hashlib.new(name).digest_size
    return b"".join(hashlib.new(name, seed + n.to_bytes(4)).digest() for n in range(length // size + 1))[:length]


def pss(digest: bytes, salt: bytes, bits: int, name: str) -> bytes:
    """A block as OpenSSL pads it (RFC 8017 9.1.1)."""
    size = (bits - 1 + 7) // 8
    plain = bytes(size - 2 * len(salt) - 2) + b"\1" + salt
    masked = bytearray(a ^ b for a, b in zip(plain, mask(digest, len(plain), name), strict=True))
    masked[0] &= 0xFF >> (8 * size - (bits - 1))
    return bytes((bits + 7) // 8 - size) + bytes(masked) + digest + b"\xbc"


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1100, 4100), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_blocks_for_keys_of_any_size_are_known(data: st.DataObject, bits: int, name: str) -> None:
    size = hashlib.new(name).digest_size
    digest, salt = (
        data.draw(st.binary(min_size=size, max_size=size)),
        data.draw(st.binary(min_size=size, max_size=size)),
    )
    block = pss(digest, salt, bits, name)
    assert is_pss(block, bits)
    assert not is_pss(block, bits + 8)
    assert not is_pss(bytes([block[0] ^ 0x80]) + block[1:], bits)
    place = data.draw(st.integers(0, len(block) - 2 * size - 2) | st.integers(len(block) - size - 1, len(block) - 1))
    assert not is_pss(block[:place] + bytes([block[place] ^ 1]) + block[place + 1 :], bits)


@pytest.mark.parametrize(
    ("message", "fits"),
    [
        (TLS_1_3 + bytes(32), True),
        (TLS_1_3 + bytes(48), True),
        (TLS_1_3 + bytes(33), False),
        (TLS_1_3.replace(b"server", b"client") + bytes(32), False),
        (bytes(64) + b"\x03\x00\x1d\x20" + bytes(32), True),
        (bytes(64) + b"\x03\x00\x1d\x20" + bytes(33), False),
        (bytes(64) + b"\x01\x00\x1d\x20" + bytes(32), False),
        (bytes(64), False),
        (b"pay to the bearer", False),
        (b"", False),
    ],
)
def test_ed25519_signs_handshakes_only(message: bytes, fits: bool) -> None:
    assert is_handshake(message) is fits
    request = Request(1, bytes(16), Scheme.EDDSA, "", message)
    assert (read_request(ask(request)) == request) is fits


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a Python with OpenSSL linked into it: where ``_ssl`` is there are none of its functions."""
    openssl.library.cache_clear()
    monkeypatch.setattr(_ssl, "__file__", _ctypes.__file__)
    yield
    openssl.library.cache_clear()


def test_a_python_that_hides_its_openssl_is_told_with_what_to_do(tmp_path: Path, hidden: None) -> None:
    cert, key = pair(tmp_path, "P-256")
    with pytest.raises(Unavailable, match="hides its OpenSSL"):
        openssl.library()
    domain = Domain("one.test", certfile=str(cert), certkey=str(key))
    wrong = try_key(domain, cert.read_bytes())
    assert f"privsep keymgr can't hold the certkey {key}: this Python hides its OpenSSL" in wrong
    assert "take a Python that shares the system's OpenSSL" in wrong
