"""JSON Web Tokens: is this one ours, and what does it claim?

Section 7.1 of protocol 2026-04-01. The key decides which algorithms count, never the token,
so a public key cannot be passed off as a shared secret and `alg: none` is nothing. Nothing
of a token is ever logged or shown: reasons name the rule that failed, not the text.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from resonate.errors import UsageError
from resonate.server.base import Unauthorized

UNCHECKED: Final = "none"
"""The word that stands for a key: signatures are not checked. For development only."""

LEEWAY: Final = 60
"""Seconds by which the clocks of issuer and server may differ."""

MAX_TOKEN: Final = 16 * 1024
"""Characters of a token that is looked at: twice what proxies let through in a header."""

REMEMBERED: Final = 4096
"""Tokens whose signature need not be computed again; a client sends the same one with every request."""

SMALLEST_RSA: Final = 2048
"""Bits of an RSA key: below, signatures can be forged with effort."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",)}
_ED25519: Final = ("EdDSA",)
_REAL: Final[tuple[str, ...]] = (*_RSA, "ES256", "ES384", *_ED25519, "HS256", "HS384", "HS512")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Claims = dict[str, Any]


class TokenVerifier:
    """Checks signature and validity of tokens.

    Args:
        key: a public key in PEM (RSA of 2,048 bits or more, EC on P-256 or P-384, Ed25519), or
            the word `none`: signatures are not checked.
        issuer: what `iss` must be; None: anything.
        audience: what `aud` must be or hold; None: anything.
        now: milliseconds since the epoch.

    Raises:
        UsageError: the key cannot be used; the text says why and shows nothing of it.
    """

    def __init__(self, key: str, issuer: str | None, audience: str | None, now: Callable[[], int]) -> None:
        self.unchecked = key.strip().lower() == UNCHECKED
        self._key: PublicKey | None = None
        self._algorithms = _REAL
        if not self.unchecked:
            self._key, self._algorithms = _read_key(key)
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._jws = PyJWS()
        self._known: dict[bytes, Claims] = {}
        self._lock = threading.Lock()

    def verify(self, token: str) -> Claims:
        """The claims of `token`.

        Raises:
            Unauthorized: it is not signed by our key, not valid now, or not meant for us.
        """
        if len(token) > MAX_TOKEN:
            raise Unauthorized(f"the token is longer than {MAX_TOKEN:,} characters")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = self._read(token)
        self._check(claims)
        self._remember(digest, claims)
        return claims

    def _read(self, token: str) -> Claims:
        try:
            parts = self._jws.decode_complete(
                token, self._key or "", list(self._algorithms), {"verify_signature": not self.unchecked}
            )
            if self.unchecked and parts["header"].get("alg") not in self._algorithms:
                raise Unauthorized("the token names no real algorithm")
            claims = msgspec.json.decode(parts["payload"])
        except (PyJWTError, ValueError, TypeError, RecursionError) as problem:
            # `from None`: the texts below may quote the token
            raise Unauthorized(f"the token cannot be verified ({type(problem).__name__})") from None
        if not isinstance(claims, dict):
            raise Unauthorized("the token's payload is no object")
        return claims

    def _check(self, claims: Claims) -> None:
        now = self._now() / 1000
        expires = _instant(claims, "exp")
        if expires is None:
            raise Unauthorized("the token has no exp")
        if expires < now - LEEWAY:
            raise Unauthorized("the token has expired")
        begins = _instant(claims, "nbf")
        if begins is not None and begins > now + LEEWAY:
            raise Unauthorized("the token is not valid yet")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Unauthorized("the token is from another issuer")
        meant = claims.get("aud")
        accepted = meant if isinstance(meant, list) else [meant]
        if self._audience is not None and self._audience not in accepted:
            raise Unauthorized("the token is meant for another audience")

    def _remember(self, digest: bytes, claims: Claims) -> None:
        if digest in self._known:
            return
        with self._lock:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[digest] = claims


def _instant(claims: Claims, name: str) -> float | None:
    at = claims.get(name)
    if at is None:
        return None
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise Unauthorized(f"the token's {name} is no instant")
    return at


def _read_key(pem: str) -> tuple[PublicKey, tuple[str, ...]]:
    if "PRIVATE KEY" in pem:
        raise UsageError("the authentication key is a private key: give the server the public one (PEM)")
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(
            "the authentication key cannot be read: it must be a public key in PEM (-----BEGIN PUBLIC KEY-----), "
            f"or the word {UNCHECKED!r} to leave signatures unchecked"
        ) from None
    match key:
        case RSAPublicKey():
            if key.key_size < SMALLEST_RSA:
                raise UsageError(
                    f"the authentication key is an RSA key of {key.key_size} bits: use one of {SMALLEST_RSA} or more"
                )
            return key, _RSA
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return key, _CURVES[key.curve.name]
        case Ed25519PublicKey():
            return key, _ED25519
    raise UsageError("the authentication key is of an unknown kind: use RSA, EC on P-256 or P-384, or Ed25519")
