"""Where pushes may go, and how they show who sends them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from resonate.clock import SystemClock
from resonate.errors import UsageError
from resonate.server.push import Pusher, PushSettings
from resonate.service.service import Service
from resonate.signing import SIGNATURE, TIMESTAMP, verify
from resonate.storage.memory import MemoryStorage

from .pushed import LOCAL, Names, answering, emptied, pushing
from .receiver import Push, Reply, receiving

# Where pushes may go.


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    names = Names(worker_test=[["127.0.0.1"]])
    with receiving() as receiver, pushing(resolve=names) as pushed:
        pushed.offer(receiver.url(host="worker.test"))  # a name that nobody but us knows

        [got] = receiver.wait(1)

        assert got.headers["Host"] == f"worker.test:{receiver.port}"
        assert names.asked == ["worker.test"]


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],
        ["127.0.0.1", "93.184.215.14"],
        ["fe80::1%lo"],
        ["nonsense"],
    ],
    ids=lambda addresses: " ".join(addresses),
)
def test_a_name_with_one_address_that_is_not_public_is_refused(
    addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = Names(worker_test=[addresses])
    with receiving() as receiver, pushing(resolve=names, allow=()) as pushed:
        pushed.offer(receiver.url(host="worker.test"))
        pushed.news(receiver.url(host="worker.test"))

        pushed.until(("execute", "dropped"), ("unblock", "dropped"))

        assert emptied(pushed)
        assert receiver.pushes == []
        assert "worker.test stands for" in caplog.text


def test_a_name_that_changes_its_meaning_is_refused_from_then_on() -> None:
    names = Names(worker_test=[["127.0.0.1"], ["127.0.0.1"], ["169.254.169.254"]])
    with receiving(answering(500)) as receiver, pushing(resolve=names) as pushed:
        pushed.news(receiver.url(host="worker.test"))

        outcomes = pushed.until(("unblock", "dropped"))

        assert outcomes == [("unblock", "error")] * 2 + [("unblock", "dropped")]
        assert len(receiver.pushes) == 2


def test_a_name_that_nobody_knows_is_tried_again() -> None:
    names = Names()
    with receiving() as receiver, pushing(resolve=names) as pushed:
        pushed.news(receiver.url(host="worker.test"))
        assert pushed.outcome() == ("unblock", "error")

        names.names["worker.test"] = [["127.0.0.1"]]

        assert pushed.until(("unblock", "success"))


@pytest.mark.parametrize("allow", [("worker.test",), ("WORKER.test.",), ("*.test",), LOCAL, ("127.0.0.1",)])
def test_what_is_allowed_is_reached(allow: tuple[str, ...]) -> None:
    names = Names(worker_test=[["127.0.0.1"]])
    with receiving() as receiver, pushing(resolve=names, allow=allow, public=False) as pushed:
        pushed.offer(receiver.url(host="worker.test"))

        assert pushed.outcome() == ("execute", "success")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "2130706433", "127.1", "0x7f.1", "017700000001"]
)
def test_the_loopback_is_refused_in_every_spelling(host: str) -> None:
    with receiving() as receiver, pushing(allow=()) as pushed:
        pushed.offer(receiver.url(host=host))

        assert pushed.outcome() == ("execute", "dropped")
        assert receiver.pushes == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with receiving() as inside, pushing() as pushed:

        def redirect(push: Push, reply: Reply) -> None:
            reply.send(status, headers={"Location": inside.url("/secret")})

        with receiving(redirect) as outside:
            pushed.offer(outside.url())

            assert pushed.outcome() == ("execute", "error")
            assert inside.pushes == []


def test_proxies_and_passwords_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login us password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with receiving() as proxy, receiving() as receiver:
        monkeypatch.setenv("http_proxy", proxy.url(""))
        with pushing() as pushed:
            pushed.offer(receiver.url())

            [got] = receiver.wait(1)

            assert got.headers["Authorization"] is None
            assert proxy.pushes == []


def test_cookies_are_not_kept() -> None:
    def answer(push: Push, reply: Reply) -> None:
        reply.send(200, headers={"Set-Cookie": "a=b; Path=/"})

    names = Names(worker_test=[["127.0.0.1"]])  # aiohttp keeps none of bare addresses
    with receiving(answer) as receiver, pushing(resolve=names) as pushed:
        for n in range(2):
            pushed.offer(receiver.url(host="worker.test"), f"task{n}")
            assert pushed.outcome() == ("execute", "success")

        assert [got.headers["Cookie"] for got in receiver.wait(2)] == [None, None]


# How pushes show who sends them.


def test_the_bearer_token_is_sent_in_the_configured_header() -> None:
    with receiving() as receiver, pushing(auth="bearer", token="s3cret") as pushed:
        pushed.offer(receiver.url())
        [got] = receiver.wait(1)
        assert got.headers["Authorization"] == "Bearer s3cret"

    with receiving() as receiver, pushing(auth="bearer", token="s3cret", header="X-Token") as pushed:
        pushed.offer(receiver.url())
        [got] = receiver.wait(1)
        assert (got.headers["X-Token"], got.headers["Authorization"]) == ("Bearer s3cret", None)


def test_a_signed_push_verifies_and_a_changed_one_does_not() -> None:
    with receiving() as receiver, pushing(signing_key="s3cret") as pushed:
        pushed.news(receiver.url())

        [got] = receiver.wait(1)

        signature, timestamp = got.headers[SIGNATURE], got.headers[TIMESTAMP]
        assert verify("s3cret", got.body, signature, timestamp)
        assert not verify("s3cret", got.body + b" ", signature, timestamp)
        assert not verify("other", got.body, signature, timestamp)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"auth": "gcp"}, "'gcp' is not supported"),
        ({"auth": "magic"}, "'magic' is unknown"),
        ({"auth": "bearer"}, "needs a token"),
        ({"auth": "bearer", "token": ""}, "needs a token"),
        ({"auth": "bearer", "token": "a\r\nX: y"}, "needs a token"),
        ({"signing_key": ""}, "signing key is empty"),
        ({"concurrency": 0}, "give 1 or more"),
        ({"allow": ("http://x",)}, "'http://x' cannot be allowed"),
        ({"ca_file": "/nowhere.pem"}, "'/nowhere.pem' cannot be read"),
    ],
)
def test_settings_that_cannot_be_followed_are_errors_at_once(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Pusher(Service(MemoryStorage(), SystemClock()), PushSettings(**settings))


def test_secrets_are_in_no_repr_or_error() -> None:
    settings = PushSettings(auth="bearer", token="s3 cret", signing_key="k3y")

    assert "s3 cret" not in repr(settings)
    assert "k3y" not in repr(settings)
    with pytest.raises(UsageError) as caught:
        Pusher(Service(MemoryStorage(), SystemClock()), settings)
    assert "s3 cret" not in str(caught.value)


# TLS.


def certificate(directory: Path, name: str) -> tuple[str, ssl.SSLContext]:
    """A file with a certificate for `name`, signed by itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = directory / f"{name}.pem", directory / f"{name}.key"
    public.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return str(public), context


def test_a_receiver_with_a_trusted_certificate_of_its_name_is_reached(tmp_path: Path) -> None:
    trusted, context = certificate(tmp_path, "worker.test")
    names = Names(worker_test=[["127.0.0.1"]])
    with receiving(tls=context) as receiver, pushing(resolve=names, ca_file=trusted) as pushed:
        pushed.offer(receiver.url(host="worker.test"))

        assert pushed.outcome() == ("execute", "success")


@pytest.mark.parametrize("trusting", [True, False])
def test_a_receiver_with_another_certificate_gets_nothing(trusting: bool, tmp_path: Path) -> None:
    trusted, context = certificate(tmp_path, "worker.test")
    names = Names(worker_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    host = "other.test" if trusting else "worker.test"
    with receiving(tls=context) as receiver:
        with pushing(resolve=names, ca_file=trusted if trusting else None) as pushed:
            pushed.offer(receiver.url(host=host))

            assert pushed.outcome() == ("execute", "error")
        assert receiver.pushes == []
