"""Who asks, and may they: section 7 of protocol 2026-04-01, with its holes closed.

An `Authenticator` turns a token, a fixed bearer token or a user with a password into an
`Identity`, and an identity and a request into a yes or no. Without one a server lets
everybody in. Secrets are compared in constant time and appear in no repr, error or log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from resonate.clock import Clock, SystemClock
from resonate.errors import UsageError
from resonate.protocol.requests import Request
from resonate.server import permissions
from resonate.server.base import Unauthorized
from resonate.server.tokens import Claims, TokenVerifier

ADMIN: Final = "admin"
"""The role, in any case, that may do everything."""

READER: Final = "reader"
"""The role, in any case, that may see what its prefix allows and change nothing."""

MAX_FIXED: Final = 1_000
"""Fixed tokens, and users: each of them is compared with what is sent, so there must be few."""

_SHOWN: Final = 64  # characters of a claim that names somebody, in logs
_LOG: Final = logging.getLogger("resonate.server")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks and what they may touch.

    Args:
        name: for logs; holds no secret.
        role: `admin` may do everything, `reader` change nothing, in any case of letters; other roles mean nothing.
        prefix: every id they name must begin with it; "" allows every id, None allows none.
        groups: the groups whose messages they may poll for; None: every group.
    """

    name: str
    role: str | None = None
    prefix: str | None = None
    groups: tuple[str, ...] | None = None

    @property
    def admin(self) -> bool:
        """Whether they may do everything."""
        return self.role is not None and self.role.lower() == ADMIN

    @property
    def reach(self) -> str | None:
        """What every id begins with that they may touch; "" is any id, None none."""
        return "" if self.admin else self.prefix

    @property
    def reader(self) -> bool:
        """Whether they may change nothing."""
        return self.role is not None and self.role.lower() == READER

    def may_see(self, group: str) -> bool:
        """Whether they may know who receives messages of `group`: of promises that they may touch, and of no others."""
        return self.reach is not None and (self.admin or self.groups is None or group in self.groups)

    def may_poll(self, group: str) -> bool:
        """Whether they may receive the messages of `group`: whoever receives an offer keeps it from others."""
        return self.may_see(group) and not self.reader


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A fixed token and whom it stands for; `Authorization: Bearer <secret>` or `head.auth`."""

    secret: str = field(repr=False)
    identity: Identity


@dataclass(frozen=True, slots=True)
class BasicUser:
    """A user and the password for `Authorization: Basic …`, and whom they stand for."""

    user: str
    password: str = field(repr=False)
    identity: Identity


class Authenticator:
    """Tells who asks and whether they may.

    Args:
        public_key: PEM of an RSA, EC or Ed25519 key, or the word `none` (signatures are not
            checked; for development); None: no JSON Web Tokens.
        issuer: what a token's `iss` must be; None: anything.
        audience: what a token's `aud` must be or hold; None: anything.
        tokens: fixed tokens.
        users: users with passwords.
        clock: tells whether a token is valid now.

    Raises:
        UsageError: the key cannot be used, a secret is empty, or nothing is given to check with.
    """

    def __init__(
        self,
        *,
        public_key: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        tokens: Sequence[BearerToken] = (),
        users: Sequence[BasicUser] = (),
        clock: Clock | None = None,
    ) -> None:
        if public_key is None and not tokens and not users:
            raise UsageError(
                "authentication needs a public key, fixed tokens or users; to do without, give no Authenticator"
            )
        _few("fixed tokens", tokens)
        _few("users", users)
        now = (clock or SystemClock()).now
        self._verifier = None if public_key is None else TokenVerifier(public_key, issuer, audience, now)
        self._tokens = [(_digest(_filled("token", t.identity, t.secret)), t.identity) for t in tokens]
        self._users = [(_credentials(u), u.identity) for u in users]
        if self.unchecked:
            _LOG.warning("signatures of tokens are not checked (the key is `none`): whoever knows the format is admin")

    @property
    def unchecked(self) -> bool:
        """Whether anybody can make a token that holds: signatures are not checked."""
        return self._verifier is not None and self._verifier.unchecked

    def authenticate(self, token: str | None, *, authorization: str | None = None) -> Identity:
        """Who sends a request.

        Args:
            token: the bare token of the envelope (`head.auth`); if there is one it counts, valid or not.
            authorization: the whole value of the header `Authorization`: `Bearer <token>` or
                `Basic <user:password>`, the scheme in any case.

        Raises:
            Unauthorized: nothing was sent, or it is not known, not valid now or not meant for this server.
        """
        if token is not None:
            return self._bearer(token)
        if authorization is None:
            raise Unauthorized("no token was sent")
        scheme, _, rest = authorization.strip().partition(" ")
        match scheme.lower():
            case "bearer":
                return self._bearer(rest.strip())
            case "basic":
                return self._basic(rest.strip())
        raise Unauthorized("the Authorization header is neither Bearer nor Basic")

    def permit(self, identity: Identity, request: Request) -> bool:
        """Whether `identity` may have `request` answered: the last word, on the decoded request.

        A search is permitted to a prefix only as `narrow` returns it.
        """
        if identity.admin:
            return True
        if identity.reader and not isinstance(request, permissions.READS):
            return False
        return identity.prefix is not None and permissions.allowed(identity.prefix, request)

    def narrow(self, identity: Identity, request: Request) -> Request:
        """`request` as `identity` may ask it: a search keeps to the ids that begin with their prefix."""
        if identity.admin or not identity.prefix:
            return request
        return permissions.narrowed(identity.prefix, request)

    def names_only_permitted(self, identity: Identity, kind: str, data: Mapping[str, Any]) -> bool:
        """Whether `identity` may send a request of `kind` that names these ids, before it is decoded.

        This gives 403 its place before the checks of fields (2.3, row 5). It is no substitute
        for `permit`: data that is no clean JSON names nothing here and may decode all the same.
        """
        if identity.admin:
            return True
        prefix = identity.prefix
        if prefix is None or (identity.reader and kind in permissions.KINDS and kind not in permissions.READ_KINDS):
            return False
        if kind not in permissions.KINDS:  # unknown ones get their 400 from whoever may touch everything
            return prefix == "" and not kind.startswith("debug.")
        return permissions.names_only(prefix, kind, data)

    def authorise(self, authorization: str | None = None) -> Callable[[str, str | None, Mapping[str, Any]], int | None]:
        """The check of `wire.decode(authorise=…)` for a request that came with this header: None, 401 or 403."""

        def judge(kind: str, token: str | None, data: Mapping[str, Any]) -> int | None:
            try:
                identity = self.authenticate(token, authorization=authorization)
            except Unauthorized:
                return 401
            return None if self.names_only_permitted(identity, kind, data) else 403

        return judge

    # ---- inside ------------------------------------------------------------------------------

    def _bearer(self, token: str) -> Identity:
        fixed = _find(self._tokens, _digest(token))
        if fixed is not None:
            return fixed
        if self._verifier is None:
            raise Unauthorized("the token is not known")
        return _identity(self._verifier.verify(token))

    def _basic(self, credentials: str) -> Identity:
        try:
            sent = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            raise Unauthorized("the Basic credentials are not base64") from None
        found = _find(self._users, hashlib.sha256(sent).digest())
        if found is None:
            raise Unauthorized("user or password is wrong")
        return found


def _identity(claims: Claims) -> Identity:
    role, prefix, name = claims.get("role"), claims.get("prefix"), claims.get("sub")
    return Identity(
        name[:_SHOWN] if isinstance(name, str) and name else "token",
        role if isinstance(role, str) else None,
        prefix if isinstance(prefix, str) else None,
        _groups(claims.get("groups")),
    )


def _groups(claim: object) -> tuple[str, ...] | None:
    """The groups of a token; a claim that cannot be read allows none, a missing one all."""
    if claim is None:
        return None
    if isinstance(claim, str):
        return (claim,)
    return tuple(group for group in claim if isinstance(group, str)) if isinstance(claim, list) else ()


def _find(known: Iterable[tuple[bytes, Identity]], sent: bytes) -> Identity | None:
    """Compare with all of them, digests of equal length, so that time tells neither which nor how far."""
    found = None
    for secret, identity in known:
        if hmac.compare_digest(secret, sent):
            found = identity
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _credentials(user: BasicUser) -> bytes:
    if ":" in user.user:
        raise UsageError(f"the user name {user.user!r} holds a colon: Basic authentication cannot carry it")
    return _digest(f"{user.user}:{_filled('password', user.identity, user.password)}")


def _filled(what: str, identity: Identity, secret: str) -> str:
    if not secret:
        raise UsageError(f"the {what} of {identity.name!r} is empty: whoever sends nothing would be let in")
    return secret


def _few(what: str, given: Sequence[object]) -> None:
    if len(given) > MAX_FIXED:
        raise UsageError(f"{len(given):,} {what} are given, {MAX_FIXED:,} is the most: use signed tokens instead")


__all__ = ["Authenticator", "BasicUser", "BearerToken", "Identity", "Unauthorized"]
