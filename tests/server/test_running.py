"""A server begins, serves, and ends: in a thread, in a process of its own, with TLS, under signals."""

from __future__ import annotations

import datetime
import http.client
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from resonate.clock import SystemClock
from resonate.errors import UsageError
from resonate.protocol import requests as rq
from resonate.server.base import Listening
from resonate.server.running import Server, ServerThread
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from tests.server.serving import LATER, PATIENCE, Client, Listener, envelope, raw, read_all, serving
from tests.server.test_http import Held


def service() -> Service:
    return Service(MemoryStorage(), SystemClock())


# ---- beginning -----------------------------------------------------------------------------------


def test_port_zero_takes_a_free_one_that_is_known_before_the_server_runs() -> None:
    thread = ServerThread(service())

    assert thread.port > 0
    assert thread.url == f"http://127.0.0.1:{thread.port}"
    thread.server.close()


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(UsageError, match=rf"127\.0\.0\.1 port {port}: Address already in use.* --server-port or "):
            Server(service(), None, Listening(port=port))


def test_a_metrics_port_that_is_taken_frees_the_first_port_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(UsageError, match=f"port {port}.* --observability-metrics-port or "):
            Server(service(), None, Listening(port=0, metrics_port=port))


def test_an_address_that_is_none_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.1 port"):
        Server(service(), None, Listening(bind="203.0.113.1", port=0))


def test_a_server_fires_the_timers_of_its_service() -> None:
    with serving() as server:
        client, listener = Client(server), Listener(server)
        soon = int(client.http("POST", "/", envelope("promise.get", {"id": "a"}))[2]["resonate-now"]) + 50
        client.send(rq.PromiseCreate("x", soon, tags={"resonate:external": "true"}))
        client.send(rq.PromiseRegisterListener("x", "poll://any@g"))

        assert listener.message()["data"]["promise"]["state"] == "rejected_timedout"
        listener.close()
        client.close()


def test_two_servers_in_one_process_share_nothing() -> None:
    with serving() as one, serving() as two:
        first, second = Client(one), Client(two)
        first.send(rq.PromiseCreate("a", LATER))

        assert second.send(rq.PromiseGet("a")).status == 404
        first.close()
        second.close()


# ---- ending ---------------------------------------------------------------------------------------


def test_a_request_under_way_is_answered_before_the_server_ends() -> None:
    storage = Held()
    answers: list[int] = []
    with serving(storage) as server:
        client = Client(server)
        waits = threading.Thread(target=lambda: answers.append(client.send(rq.PromiseCreate("a", LATER)).status))
        waits.start()
        assert storage.reached.wait(PATIENCE)
        server.stop()
        storage.go.set()
        waits.join()

    assert answers == [200]
    client.close()


def test_a_request_that_takes_longer_than_the_shutdown_time_is_told_that_its_outcome_is_unknown() -> None:
    storage = Held()
    with serving(storage, listening=Listening(port=0, shutdown_timeout=1)) as server, raw(server) as connection:
        body = envelope("promise.create", {"id": "a", "timeoutAt": LATER})
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        assert storage.reached.wait(PATIENCE)
        server.stop()

        assert read_all(connection).startswith(b"HTTP/1.1 500 ")
        storage.go.set()


def test_stopping_twice_or_before_starting_does_nothing() -> None:
    thread = ServerThread(service()).start()
    thread.stop()
    thread.stop()

    ServerThread(service()).stop()


def test_a_stopped_server_accepts_no_connections() -> None:
    with serving() as server:
        port = server.port

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_storage_is_open_after_its_server_has_ended() -> None:
    storage = MemoryStorage()
    with serving(storage) as server:
        client = Client(server)
        client.send(rq.PromiseCreate("a", LATER))
        client.close()

    with serving(storage) as server:
        client = Client(server)
        assert client.send(rq.PromiseGet("a")).status == 200
        client.close()


PROGRAM = """
import sys
from resonate.clock import SystemClock
from resonate.server.base import Listening
from resonate.server.running import Server
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage

server = Server(Service(MemoryStorage(), SystemClock()), None, Listening(port=0))
server.run(lambda: print(server.port, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_in_the_main_thread_and_its_streams(sent: signal.Signals) -> None:
    source = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/poll/g/a")
    stream = connection.getresponse()

    process.send_signal(sent)

    assert stream.read() == b""
    assert process.stdout.read() == "ended\n"
    assert process.wait(PATIENCE) == 0
    process.stdout.close()
    connection.close()


def test_a_program_s_log_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """The server logs by `logging` and configures nothing."""
    handlers = list(logging.getLogger().handlers), list(logging.getLogger("uvicorn").handlers)
    with serving():
        pass

    assert (list(logging.getLogger().handlers), list(logging.getLogger("uvicorn").handlers)) == handlers


# ---- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Certificate, key, and the key encrypted with `secret`."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    encrypted = serialization.BestAvailableEncryption(b"secret")
    (directory / "cert.pem").write_bytes(made.public_bytes(pem))
    (directory / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    (directory / "locked.pem").write_bytes(key.private_bytes(pem, form, encrypted))
    return str(directory / "cert.pem"), str(directory / "key.pem"), str(directory / "locked.pem")


@pytest.mark.parametrize("locked", [False, True])
def test_with_a_certificate_the_server_speaks_tls(locked: bool, certificate: tuple[str, str, str]) -> None:
    path, key, locked_key = certificate
    listening = Listening(
        port=0, certificate=path, key=locked_key if locked else key, key_password="secret" if locked else None
    )
    with serving(listening=listening) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=path)
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=PATIENCE, context=context)
        connection.request("POST", "/", envelope("promise.get", {"id": "a"}))
        answer = connection.getresponse()

        assert (answer.status, json.loads(answer.read())["kind"]) == (404, "promise.get")
        connection.close()


@pytest.mark.parametrize(
    ("key", "password"), [("none.pem", None), ("cert.pem", None), ("locked.pem", None), ("locked.pem", "wrong")]
)
def test_a_certificate_that_cannot_be_used_is_an_error_that_names_it(
    key: str, password: str | None, certificate: tuple[str, str, str]
) -> None:
    path = certificate[0]
    given = str(Path(path).parent / key)

    with pytest.raises(UsageError, match="cannot be used") as caught:
        Server(service(), None, Listening(port=0, certificate=path, key=given, key_password=password))

    assert given in str(caught.value)


def test_the_settings_of_a_listener_show_no_password(certificate: tuple[str, str, str]) -> None:
    assert "secret" not in repr(Listening(certificate=certificate[0], key_password="secret"))
