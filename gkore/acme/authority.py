"""The certificate authority, spoken to with certbot's ``acme`` library: one order, from the account to the chain.

The library has given tls-alpn-01 up; its form is three lines, and they stand here.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import josepy
import requests
from acme import challenges, client, errors, jws, messages

from gkore import __version__
from gkore.acme.refusal import Refusal
from gkore.acme.responder import challenge_certificate

REQUEST_TIME = 30
"""Seconds of silence on one request."""
ORDER_TIME = 120
"""Seconds for the CA to look at the challenge and to make the certificate."""

Answering = Callable[[str, bytes], AbstractContextManager[None]]


@challenges.ChallengeResponse.register
class AlpnResponse(challenges.KeyAuthorizationChallengeResponse):  # type: ignore[misc]
    """Says that the challenge can be looked at: an empty object (RFC 8555 7.5.1)."""

    typ = "tls-alpn-01"


@challenges.Challenge.register
class AlpnChallenge(challenges.KeyAuthorizationChallenge):  # type: ignore[misc]
    """RFC 8737."""

    typ = "tls-alpn-01"
    response_cls = AlpnResponse

    def validation(self, account_key: Any, **_: Any) -> bytes:
        """What the challenge certificate holds."""
        return hashlib.sha256(self.key_authorization(account_key).encode()).digest()


class Trusting(requests.adapters.HTTPAdapter):  # type: ignore[misc]
    """Trusts what a context trusts: certificates read before a chroot, where no bundle of requests' is."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **more)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **more)

    def cert_verify(self, *_: Any) -> None:
        """The context does."""

    def send(self, request: Any, **more: Any) -> Any:
        """Without the path that REQUESTS_CA_BUNDLE puts there: after a chroot it leads nowhere."""
        return super().send(request, **{**more, "verify": True})


def trust(ca: str) -> ssl.SSLContext:
    """Whom to believe: the system's authorities and those of certifi, or only those of ``ca`` (PEM)."""
    if ca:
        return ssl.create_default_context(cadata=ca)
    context = ssl.create_default_context()
    context.load_verify_locations(os.environ.get("REQUESTS_CA_BUNDLE") or requests.certs.where())
    return context


def warm_up() -> None:
    """Import what the libraries import at first use: after a chroot there is nothing to import from."""
    import encodings.idna  # noqa: F401

    from cryptography.hazmat.primitives.asymmetric import ec

    key = josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    jws.JWS.sign(b"", key=key, alg=josepy.ES256, nonce=b"", url="https://localhost/").json_dumps()
    challenge_certificate("localhost", bytes(32))


class Authority:
    """One CA and our account there. ``email`` may be empty."""

    def __init__(self, url: str, email: str, key: Any, trusted: ssl.SSLContext) -> None:
        self._url = url
        self._email = email
        self._key = key
        self._trusted = trusted

    def issue(self, name: str, request: str, answering: Answering) -> str:
        """The chain (PEM) for a request (PEM). Refusal says why there is none."""
        try:
            return self._issue(name, request, answering)
        except messages.Error as problem:
            raise Refusal(problem.code or "", _told(problem), name) from None
        except errors.ValidationError as failure:
            raise _invalid(failure, name) from None
        except errors.IssuanceError as failure:
            raise Refusal(failure.error.code or "", _told(failure.error), name) from None
        except errors.TimeoutError:
            raise Refusal("timeout", f"the CA has not decided within {ORDER_TIME} s", name) from None
        except (requests.RequestException, errors.Error, josepy.Error, KeyError, ValueError) as failure:
            raise Refusal("unreachable", f"{self._url}: {_cause(failure)}", name) from None

    def _issue(self, name: str, request: str, answering: Answering) -> str:
        """A client of its own each time: URLs, nonces and accounts of a CA that was away may have changed."""
        acme = self._join()
        order = acme.new_order(request.encode())
        end = datetime.now() + timedelta(seconds=ORDER_TIME)  # the library compares with local time
        for authorization in order.authorizations:
            if authorization.body.status == messages.STATUS_PENDING:
                challenge = _alpn(authorization, name)
                response, digest = challenge.chall.response_and_validation(self._key)
                with answering(name, digest):
                    acme.answer_challenge(challenge, response)
                    order = acme.poll_authorizations(order, end)
        chain: str = acme.finalize_order(order, end).fullchain_pem
        return chain

    def _join(self) -> Any:
        network = client.ClientNetwork(
            self._key, alg=josepy.ES256, user_agent=f"gkore/{__version__}", timeout=REQUEST_TIME
        )
        network.session.mount("https://", Trusting(self._trusted))
        acme = client.ClientV2(client.ClientV2.get_directory(self._url, network), network)
        contact = {"email": self._email} if self._email else {}
        asked = messages.NewRegistration.from_data(**contact, terms_of_service_agreed=True)
        try:
            acme.new_account(asked)
        except errors.ConflictError as known:  # the key has an account: the same one as ever (RFC 8555 7.3.1)
            network.account = messages.RegistrationResource(body=messages.Registration(), uri=known.location)
        return acme


def _alpn(authorization: Any, name: str) -> Any:
    for challenge in authorization.body.challenges:
        if isinstance(challenge.chall, AlpnChallenge):
            return challenge
    raise Refusal("unsupported", "the CA offers no tls-alpn-01 for this name", name)


def _told(problem: Any) -> str:
    """The problem's detail, with those of the names that it is made of (RFC 8555 6.7.1)."""
    parts = [problem.detail or problem.description or problem.code or "no reason given"]
    parts += [one.detail or one.code for one in problem.subproblems or ()]
    return "; ".join(parts)


def _invalid(failure: Any, name: str) -> Refusal:
    challenges_of = [one for authorization in failure.failed_authzrs for one in authorization.body.challenges]
    found = [one.error for one in challenges_of if one.error]
    if not found:
        return Refusal("unauthorized", "the CA found the challenge invalid and gave no reason", name)
    return Refusal(found[0].code or "", "; ".join(map(_told, found)), name)


def _cause(failure: BaseException) -> str:
    """What lies beneath an exception of requests', whose own text is a riddle; a response speaks for itself."""
    for argument in failure.args:
        if isinstance(argument, requests.Response):
            return f"answered with HTTP status {argument.status_code}"
    reason: Any = getattr(failure.args[0], "reason", None) if failure.args else None
    text = str(reason or failure) or type(failure).__name__
    return text.partition(": ")[2] or text if reason is not None else text
