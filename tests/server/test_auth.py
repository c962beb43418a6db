"""Who is let in: tokens, fixed tokens, users; real keys, made here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from resonate.clock import SettableClock
from resonate.errors import UsageError
from resonate.server import tokens
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity, Unauthorized

NOW = 1_800_000_000  # seconds

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()

ACCEPTED = [
    *((RSA, algorithm) for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    (P256, "ES256"),
    (P384, "ES384"),
    (ED25519, "EdDSA"),
]


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def token(key: Any = RSA, algorithm: str = "RS256", **claims: Any) -> str:
    """A token that is valid for a minute; a claim given as None is left out."""
    payload = {"exp": NOW + 60, "prefix": "", **claims}
    return jwt.encode({name: value for name, value in payload.items() if value is not None}, key, algorithm)


def unsigned(payload: bytes, header: dict[str, Any], signature: bytes = b"") -> str:
    parts = json.dumps(header).encode(), payload, signature
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def authenticator(key: Any = RSA, **options: Any) -> Authenticator:
    return Authenticator(public_key=key if isinstance(key, str) else pem(key), clock=clock(), **options)


def clock(now: float = NOW) -> SettableClock:
    return SettableClock(int(now * 1000))


def refused(auth: Authenticator, sent: str | None, authorization: str | None = None) -> str:
    with pytest.raises(Unauthorized) as caught:
        auth.authenticate(sent, authorization=authorization)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


# Signatures.


@pytest.mark.parametrize(("key", "algorithm"), ACCEPTED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_token_signed_with_an_algorithm_of_the_key_is_accepted(key: Any, algorithm: str) -> None:
    identity = authenticator(key).authenticate(token(key, algorithm, sub="ann", prefix="a.", role="dev"))

    assert identity == Identity("ann", "dev", "a.")


@pytest.mark.parametrize("sent", [entry for entry in ACCEPTED if entry[0] is not RSA], ids=lambda entry: entry[1])
def test_a_token_of_another_kind_of_key_is_refused(sent: tuple[Any, str]) -> None:
    assert "cannot be verified" in refused(authenticator(RSA), token(*sent))


@pytest.mark.parametrize(("key", "algorithm"), ACCEPTED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_rsa_token_is_refused_by_every_other_key(key: Any, algorithm: str) -> None:
    if key is RSA:
        key = OTHER_RSA

    refused(authenticator(key), token(RSA))


def test_the_public_key_as_a_shared_secret_signs_nothing() -> None:
    header = {"alg": "HS256", "typ": "JWT"}
    payload = json.dumps({"exp": NOW + 60, "role": "admin"}).encode()
    begun = unsigned(payload, header).rpartition(".")[0]
    signature = hmac.new(pem(RSA).encode(), begun.encode(), hashlib.sha256).digest()

    reason = refused(authenticator(RSA), unsigned(payload, header, signature))

    assert "InvalidAlgorithmError" in reason


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, 7, "HS256", "RS999"])
@pytest.mark.parametrize("key", [RSA, P256, ED25519])
def test_an_algorithm_that_is_none_or_not_the_keys_is_refused(key: Any, name: Any) -> None:
    refused(authenticator(key), unsigned(json.dumps({"exp": NOW + 60}).encode(), {"alg": name}))


def test_one_changed_character_of_any_part_is_refused() -> None:
    auth = authenticator()
    good = token(role="dev")
    middles = [sum(len(part) + 1 for part in good.split(".")[:n]) + 10 for n in range(3)]

    for at in middles:
        refused(auth, good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :])

    assert auth.authenticate(good).role == "dev"


@pytest.mark.parametrize(
    "garbage",
    ["", ".", "..", "...", "a.b", "a.b.c.d", "Bearer x", "é.é.é", "\ud800.a.b", "{}.{}.{}", "e30.e30.e30", "x" * 1000],
)
def test_what_is_no_token_is_refused(garbage: str) -> None:
    refused(authenticator(), garbage)


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b"[" * 8000, b'{"exp":NaN}'])
def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    signed = jwt.api_jws.encode(payload, RSA, "RS256")

    refused(authenticator(), signed)


def test_critical_headers_we_do_not_know_are_refused() -> None:
    signed = jwt.encode({"exp": NOW + 60}, RSA, "RS256", headers={"crit": ["exp"], "exp": 1})

    refused(authenticator(), signed)


def test_a_token_above_the_limit_is_refused_unread() -> None:
    auth = authenticator()
    pad = tokens.MAX_TOKEN - len(token(pad=""))
    fitting = token(pad="x" * (pad * 3 // 4 - 8))
    assert len(fitting) <= tokens.MAX_TOKEN

    assert auth.authenticate(fitting).prefix == ""
    assert "longer than 16,384" in refused(auth, token(pad="x" * 20_000))
    assert "longer than 16,384" in refused(auth, "x" * 50_000_000)


def test_the_word_none_leaves_the_signature_unchecked_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "resonate.server"):
        auth = authenticator("none")

    assert "not checked" in caplog.text
    assert auth.authenticate(token(OTHER_RSA, role="Admin")).admin
    assert auth.authenticate(unsigned(json.dumps({"exp": NOW}).encode(), {"alg": "HS256"})).prefix is None


@pytest.mark.parametrize("name", ["none", "None", "", None, 7, "X"])
def test_the_word_none_still_wants_a_real_algorithm(name: Any) -> None:
    refused(authenticator("none"), unsigned(json.dumps({"exp": NOW + 60}).encode(), {"alg": name}))


def test_the_word_none_still_wants_valid_claims() -> None:
    auth = authenticator("none", issuer="us")

    refused(auth, token(exp=NOW - 61, iss="us"))
    refused(auth, token(iss="them"))
    assert auth.authenticate(token(iss="us")).prefix == ""


# Claims.


@pytest.mark.parametrize("exp", [NOW - 60, NOW - 59.5, NOW, NOW + 1, NOW + 1e9, 2**62])
def test_a_token_is_valid_until_a_minute_after_its_exp(exp: float) -> None:
    assert authenticator().authenticate(token(exp=exp)).prefix == ""


@pytest.mark.parametrize("exp", [NOW - 61, NOW - 60.5, 0, -1, -(2**62)])
def test_an_expired_token_is_refused(exp: float) -> None:
    assert "expired" in refused(authenticator(), token(exp=exp))


@pytest.mark.parametrize("exp", [None, "9999999999", True, [NOW], {"a": 1}])
def test_a_token_without_a_readable_exp_is_refused(exp: Any) -> None:
    assert "exp" in refused(authenticator(), token(exp=exp))


@pytest.mark.parametrize(("nbf", "valid"), [(NOW - 9, True), (NOW + 60, True), (NOW + 61, False), ("x", False)])
def test_a_token_is_not_valid_before_its_nbf_less_a_minute(nbf: Any, valid: bool) -> None:
    auth = authenticator()

    if valid:
        assert auth.authenticate(token(nbf=nbf)).prefix == ""
    else:
        refused(auth, token(nbf=nbf))


def test_a_token_that_was_accepted_once_expires_all_the_same() -> None:
    moving = clock()
    auth = Authenticator(public_key=pem(RSA), clock=moving)
    sent = token(exp=NOW + 10)
    assert auth.authenticate(sent).prefix == ""

    moving.set((NOW + 71) * 1000)

    assert "expired" in refused(auth, sent)


def test_iat_is_not_looked_at() -> None:
    assert authenticator().authenticate(token(iat=NOW + 100_000)).prefix == ""


@pytest.mark.parametrize("issuer", [None, "them", ["us"], "US", ""])
def test_a_token_of_another_issuer_is_refused(issuer: Any) -> None:
    payload = json.dumps({"exp": NOW + 60, "iss": issuer}).encode()

    assert "issuer" in refused(authenticator(issuer="us"), jwt.api_jws.encode(payload, RSA, "RS256"))


@pytest.mark.parametrize("audience", ["here", ["here"], ["there", "here"]])
def test_an_audience_may_be_a_text_or_a_list(audience: Any) -> None:
    assert authenticator(audience="here").authenticate(token(aud=audience)).prefix == ""


@pytest.mark.parametrize("audience", [None, "there", "her", "heree", [], ["there"], [["here"]], {"here": 1}, 7])
def test_a_token_for_another_audience_is_refused(audience: Any) -> None:
    payload = json.dumps({"exp": NOW + 60, "aud": audience}).encode()

    assert "audience" in refused(authenticator(audience="here"), jwt.api_jws.encode(payload, RSA, "RS256"))


def test_issuer_and_audience_do_not_matter_unless_configured() -> None:
    assert authenticator().authenticate(token(iss="anybody", aud="anything")).prefix == ""


@pytest.mark.parametrize(("role", "admin"), [("admin", True), ("ADMIN", True), ("Admin", True), ("user", False)])
def test_the_role_admin_counts_in_any_case(role: str, admin: bool) -> None:
    assert authenticator().authenticate(token(role=role, prefix=None)).admin is admin


@pytest.mark.parametrize("role", [None, 1, ["admin"], {"admin": 1}, True])
def test_a_role_that_is_no_text_is_none(role: Any) -> None:
    assert authenticator().authenticate(token(role=role)).role is None


@pytest.mark.parametrize("prefix", [None, 7, ["a"], {"a": 1}, True])
def test_a_prefix_that_is_missing_or_no_text_is_none_and_the_token_is_valid(prefix: Any) -> None:
    assert authenticator().authenticate(token(prefix=prefix)).prefix is None


def test_the_null_prefix_is_none() -> None:
    signed = jwt.api_jws.encode(json.dumps({"exp": NOW, "prefix": None}).encode(), RSA, "RS256")

    assert authenticator().authenticate(signed).prefix is None


@pytest.mark.parametrize(
    ("claim", "allowed", "forbidden"),
    [
        (None, ["a", "b"], []),
        (["a"], ["a"], ["b", "", "A"]),
        ("a", ["a"], ["b"]),
        ([], [], ["a"]),
        (["a", 7], ["a"], ["7"]),
        (7, [], ["a", "7"]),
        ({"a": 1}, [], ["a"]),
    ],
)
def test_the_claim_groups_says_which_groups_may_be_polled(claim: Any, allowed: list[str], forbidden: list[str]) -> None:
    identity = authenticator().authenticate(token(groups=claim))

    assert all(identity.may_poll(group) for group in allowed)
    assert not any(identity.may_poll(group) for group in forbidden)


def test_an_admin_may_poll_every_group() -> None:
    assert authenticator().authenticate(token(groups=[], role="admin")).may_poll("a")


def test_the_name_of_a_token_is_its_sub_cut_short() -> None:
    auth = authenticator()

    assert auth.authenticate(token(sub="x" * 500)).name == "x" * 64
    assert auth.authenticate(token(sub=None)).name == "token"


def test_more_tokens_than_are_remembered_are_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 2)
    auth = authenticator(ED25519)
    sent = [token(ED25519, "EdDSA", sub=str(n)) for n in range(5)]

    names = [auth.authenticate(one).name for one in sent * 2]

    assert names == list("01234") * 2


# Where a token is read.


def test_the_envelopes_token_wins_over_the_header() -> None:
    auth = authenticator()
    good, bad = token(sub="envelope"), token(OTHER_RSA)

    assert auth.authenticate(good, authorization=f"Bearer {bad}").name == "envelope"
    refused(auth, bad, f"Bearer {good}")
    refused(auth, "", f"Bearer {good}")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", " Bearer ", "Bearer  "])
def test_the_header_counts_if_the_envelope_has_none(scheme: str) -> None:
    assert authenticator().authenticate(None, authorization=f"{scheme} {token(sub='header')}").name == "header"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Digest x", "Token", "Basic", "Basic %%%", "Basic é"]
)
def test_a_header_that_cannot_be_read_is_refused(header: str | None) -> None:
    refused(authenticator(), None, header)


# Fixed tokens and users.

ANN = Identity("ann", prefix="ann.")
BOB = Identity("bob", role="admin")
FIXED = {
    "tokens": [BearerToken("s3cret-ann", ANN), BearerToken("s3cret-bob", BOB)],
    "users": [BasicUser("ann", "pa:ss", ANN), BasicUser("bob", "wörd", BOB)],
}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_fixed_tokens_stand_for_their_identity_in_envelope_and_header() -> None:
    auth = Authenticator(**FIXED)  # type: ignore[arg-type]

    assert auth.authenticate("s3cret-ann") is ANN
    assert auth.authenticate(None, authorization="Bearer s3cret-bob") is BOB


def test_users_stand_for_their_identity() -> None:
    auth = Authenticator(**FIXED)  # type: ignore[arg-type]

    assert auth.authenticate(None, authorization=basic("ann", "pa:ss")) is ANN
    assert auth.authenticate(None, authorization=basic("bob", "wörd").replace("Basic", "bAsIc")) is BOB


@pytest.mark.parametrize("wrong", ["s3cret-an", "s3cret-annn", "S3CRET-ANN", "", " s3cret-ann", token()])
def test_another_fixed_token_is_refused(wrong: str) -> None:
    refused(Authenticator(**FIXED), wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("user", "password"), [("ann", "wörd"), ("ann", ""), ("eve", "pa:ss"), ("", ""), ("ann:pa", "ss")]
)
def test_a_wrong_user_or_password_is_refused(user: str, password: str) -> None:
    auth = Authenticator(**FIXED)  # type: ignore[arg-type]

    if (user, password) == ("ann:pa", "ss"):  # the very same bytes: a user's name has no colon
        assert auth.authenticate(None, authorization=basic(user, password)) is ANN
    else:
        assert "user or password" in refused(auth, None, basic(user, password))


def test_a_password_is_no_bearer_token_and_a_token_no_password() -> None:
    auth = Authenticator(**FIXED)  # type: ignore[arg-type]

    refused(auth, "pa:ss")
    refused(auth, "ann:pa:ss")
    refused(auth, None, basic("ann", "s3cret-ann"))


def test_fixed_tokens_and_signed_ones_live_side_by_side() -> None:
    auth = authenticator(**FIXED)

    assert auth.authenticate("s3cret-ann") is ANN
    assert auth.authenticate(token(sub="jwt")).name == "jwt"
    assert auth.authenticate(None, authorization=basic("bob", "wörd")) is BOB


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = Authenticator(**FIXED)  # type: ignore[arg-type]
    compared: list[int] = []
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        assert len(one) == len(other)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for sent in ("s3cret-ann", "s3cret-bob"):
        auth.authenticate(sent)
    refused(auth, "x")

    assert compared == [32] * 6  # every secret, every time, found or not


def test_secrets_are_in_no_repr_error_or_log(caplog: pytest.LogCaptureFixture) -> None:
    sent = token(OTHER_RSA, secret="payload-secret")
    with caplog.at_level(logging.DEBUG):
        auth = authenticator(**FIXED)
        reasons = [
            refused(auth, sent),
            refused(auth, "s3cret-anna"),
            refused(auth, None, "Basic not-base64-s3cret"),
            refused(auth, None, basic("ann", "s3cret-wrong")),
            refused(auth, token(exp=1, sub="s3cret")),
            refused(auth, None, "s3cret"),
        ]

    shown = " ".join([repr(auth), repr(FIXED), *reasons, caplog.text])

    for secret in ("s3cret", "pa:ss", "wörd", sent, *sent.split(".")):
        assert secret not in shown


# What cannot be configured.


def test_nothing_to_check_with_is_an_error() -> None:
    with pytest.raises(UsageError, match="needs a public key, fixed tokens or users"):
        Authenticator()


def private(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "cannot be read"),
        ("nope", "cannot be read"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read"),
        (private(RSA), "private key"),
        (private(ED25519), "private key"),
        (pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (pem(ec.generate_private_key(ec.SECP521R1())), "unknown kind"),
        (pem(ed448.Ed448PrivateKey.generate()), "unknown kind"),
        (pem(dsa.generate_private_key(1024)), "unknown kind"),
    ],
)
def test_a_key_that_cannot_be_used_is_an_error_that_does_not_show_it(key: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        Authenticator(public_key=key)

    assert len(key) < 10 or key not in str(caught.value)


def test_empty_secrets_colons_and_crowds_are_errors() -> None:
    with pytest.raises(UsageError, match="token of 'ann' is empty"):
        Authenticator(tokens=[BearerToken("", ANN)])
    with pytest.raises(UsageError, match="password of 'ann' is empty"):
        Authenticator(users=[BasicUser("ann", "", ANN)])
    with pytest.raises(UsageError, match="holds a colon"):
        Authenticator(users=[BasicUser("a:b", "x", ANN)])
    with pytest.raises(UsageError, match="1,001 fixed tokens"):
        Authenticator(tokens=[BearerToken(str(n), ANN) for n in range(1001)])
