"""Secrets do not show: in errors, reprs, logs, printed settings and screens."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resonate import Context, Resonate
from resonate.cli.app import app
from resonate.encoders import JsonEncoder
from resonate.errors import ResonateError
from resonate.inspection.steering import flat
from resonate.network.http.connection import Server
from resonate.retry_policies import Constant
from resonate.server.base import Listening
from resonate.server.config import KEYS, resolve
from resonate.storage.postgres import location
from resonate.urls import shown
from tests.urls import resolved

SECRET = "hunter2"

URLS = [
    f"http://me:{SECRET}@127.0.0.1:1",
    f"http://me:{SECRET}@127.0.0.1:port",
    f"http://me:a/{SECRET}@127.0.0.1:1",
    f"http://me:{SECRET}/b@127.0.0.1:1",
    f"http://me:a?{SECRET}@127.0.0.1:1",
    f"http://me:{SECRET}#b@127.0.0.1:1",
    f"http://me:a@{SECRET}@[::1:1",
    f"http://{SECRET}@127.0.0.1:0",
    f"postgresql://me:{SECRET}@127.0.0.1:1/db?connect_timeout=1",
    f"postgresql://me:a/{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}/b@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}?b@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}#b@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/db?user=me&password={SECRET}&lanes=many",
    f"postgresql://127.0.0.1:1/db?schema=No!&sslpassword={SECRET}",
    f"postgresql://me:{SECRET}@[::1/db",
    f"ftp://me:{SECRET}@h",
]


MAKERS: dict[str, Callable[[str], object]] = {
    "client": lambda url: resolved(url, {}),
    "database": location.parse,
    "server": Server.at,
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("maker", MAKERS)
def test_no_error_and_no_repr_of_a_url_shows_its_password(maker: str, url: str) -> None:
    try:
        text = repr(MAKERS[maker](url))
    except (ValueError, TypeError, ResonateError) as error:
        text = "".join(traceback.format_exception(type(error), error, None))
    assert SECRET not in text
    assert SECRET not in shown(url)


@pytest.mark.parametrize("url", URLS)
def test_no_command_prints_the_password_of_a_url(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    url = url.replace("connect_timeout=1", "lanes=0")  # nothing is connected to: that takes a while to fail
    commands = [["serve", "--print-config"], ["migrate"]] + ([] if url.startswith("http") else [["list"], ["doctor"]])
    for words in commands:
        assert SECRET not in CliRunner().invoke(app, [*words, "--url", url]).output


@pytest.mark.parametrize("path", [key.path for key in KEYS.values() if key.secret and key.kind == "text"])
def test_no_secret_setting_is_printed_or_in_an_error(path: str, tmp_path: Path) -> None:
    key = KEYS[path]
    if key.only == (None,):
        with pytest.raises(ResonateError) as caught:
            resolve({}, {key.variable: SECRET}, directory=str(tmp_path))
        assert SECRET not in str(caught.value)
        return
    config = resolve({}, {key.variable: SECRET}, directory=str(tmp_path))

    assert config[path] == SECRET
    assert SECRET not in config.settings[path].shown
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RESONATE_AUTH__TOKENS", f'[{{"secret": "{SECRET}", "role": 1}}]'),
        ("RESONATE_AUTH__TOKENS", f'[{{"secret": "{SECRET}"'),
        ("RESONATE_AUTH__TOKENS", f'"{SECRET}"'),
        ("RESONATE_AUTH__USERS", f'[{{"user": "a:b", "password": "{SECRET}"}}]'),
        ("RESONATE_AUTH__USERS", f'[{{"user": "a", "password": "{SECRET}", "wrong": "{SECRET}"}}]'),
        ("RESONATE_AUTH__PUBLICKEY", f"-----BEGIN PRIVATE KEY-----{SECRET}"),
    ],
)
def test_no_fixed_token_or_password_is_in_an_error(name: str, text: str, tmp_path: Path) -> None:
    from resonate.server.build import open_server

    common = {"url": "memory", "server.port": 0, "observability.metrics_port": 0}
    with pytest.raises(ResonateError) as caught, open_server(resolve(common, {name: text}, directory=str(tmp_path))):
        pass
    assert SECRET not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize("auth", [SECRET, ("me", SECRET, 1), ("me", 1, SECRET), {SECRET: 1}])
def test_auth_of_a_wrong_form_is_not_shown(auth: object) -> None:
    with pytest.raises(TypeError) as caught:
        Resonate(url="http://127.0.0.1:1", auth=auth)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.slow
def test_a_client_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = Resonate(url=f"http://me:{SECRET}@127.0.0.1:1", auth=("me", SECRET), token=f"t-{SECRET}")
    settings = client._core.settings

    assert SECRET not in f"{client!r}{settings!r}{vars(client)!r}"
    with pytest.raises(ResonateError) as caught:
        client.promises.get("x")
    client.stop()
    assert SECRET not in f"{caught.value}{caught.value!r}{caplog.text}"


def test_a_token_that_cannot_be_sent_is_not_shown() -> None:
    with pytest.raises(ValueError) as caught:
        Resonate(url="http://127.0.0.1:1", token=f"{SECRET}\r\nx: y")
    assert SECRET not in str(caught.value)


def test_a_listeners_password_is_in_no_repr() -> None:
    assert SECRET not in repr(Listening(key_password=SECRET))


def test_secrets_of_the_environment_are_not_on_the_command_line() -> None:
    """What has to be given as a flag is seen by everybody who may list processes: nothing has to."""
    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"})

    assert "--auth-tokens" not in result.output
    assert "--auth-users" not in result.output
    assert all(key.variable.startswith("RESONATE_") for key in KEYS.values() if key.secret)


class Hiding:
    """JSON that nobody finds a word in."""

    def encode(self, obj: Any) -> str | None:
        text = JsonEncoder().encode(obj)
        return None if text is None else text.encode().hex()

    def decode(self, obj: str | None) -> Any:
        return JsonEncoder().decode(None if obj is None else bytes.fromhex(obj).decode())


def declined(ctx: Context, card: str) -> str:
    if ctx.info.attempt < 3:
        raise ValueError(f"declined: {card}")
    return f"paid by {card}"


def paying(ctx: Context, card: str) -> Generator[Any, Any, str]:
    paid: str = yield ctx.run(declined, card).options(encoder=Hiding(), retry_policy=Constant(delay=0, max_retries=3))
    return paid


@pytest.mark.parametrize("func", [declined, paying])
def test_with_an_encoder_no_text_of_an_error_is_stored_in_clear(tmp_path: Path, func: Callable[..., str]) -> None:
    with Resonate(url=f"sqlite:///{tmp_path}/app.db") as client:
        client.register(func)
        caller = client.options(encoder=Hiding(), retry_policy=Constant(delay=0, max_retries=3))
        assert caller.run("pay", func, SECRET) == f"paid by {SECRET}"
        (tried,) = [call for call in flat(client.get("pay").tree()) if call.name == "declined"]

    assert [str(each.error) for each in tried.attempts] == ["ValueError", "ValueError", "None"]
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert b"ValueError" in stored
    assert SECRET.encode() not in stored
