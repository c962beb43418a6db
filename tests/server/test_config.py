"""Settings of a server: each by each source, who wins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate.errors import StorageUnusable, UsageError
from resonate.server.build import open_server
from resonate.server.config import KEYS, MASK, TABLE, Key, resolve
from resonate.server.describing import page

REFUSED_ALONE = {"strict", "server.tls.certificate", "server.tls.key"}
"""Settings that need another one beside them."""

SETTABLE = [key for key in TABLE if key.path not in REFUSED_ALONE and key.only != (None,)]


def example(key: Key) -> Any:
    """A value of `key` that is not its default."""
    if key.path == "tasks.fence_preload":
        return "all"
    if key.path == "transports.http_push.auth.mode":
        return "none"
    if key.only is not None:
        return next((value for value in key.only if value != key.default), key.default)
    match key.kind:
        case "integer":
            return key.default + 1
        case "switch":
            return not key.default
        case "list":
            return ["a.example", "b.example"]
        case "entries":
            return [{"secret": "s", "name": "ci"}]
    return next((choice for choice in key.choices if choice != key.default), "some-text")


def read(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def as_text(key: Key, value: Any) -> str:
    match key.kind:
        case "switch":
            return str(value).lower()
        case "list":
            return ",".join(value)
        case "entries":
            return json.dumps(value)
    return str(value)


def as_toml(key: Key, value: Any) -> str:
    section, _, name = key.path.rpartition(".")
    if key.kind == "entries":
        lines = [f"{k} = {json.dumps(v)}" for k, v in value[0].items()]
        return f"[[{key.path}]]\n" + "\n".join(lines) + "\n"
    return (f"[{section}]\n" if section else "") + f"{name} = {json.dumps(value)}\n"


@pytest.mark.parametrize("key", SETTABLE, ids=lambda key: key.path)
def test_each_setting_is_read_from_each_source_and_says_which_one_it_was(key: Key, tmp_path: Path) -> None:
    value = example(key)
    (tmp_path / "resonate.toml").write_text(as_toml(key, value))

    by_file = resolve({}, {}, directory=str(tmp_path)).settings[key.path]
    assert (by_file.value, by_file.source.startswith(str(tmp_path / "resonate.toml"))) == (read(value), True)
    if key.path != "url":
        by_variable = resolve({}, {key.variable: as_text(key, value)}).settings[key.path]
        assert (by_variable.value, by_variable.source) == (read(value), key.variable)
    by_flag = resolve({key.path: value}, {}).settings[key.path]
    assert (by_flag.value, by_flag.source) == (read(value), key.option)


def test_the_command_line_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "resonate.toml").write_text("[server]\nport = 1\n")
    port = "server.port"

    def resolved(flags: dict[str, Any], environment: dict[str, str]) -> Any:
        return resolve(flags, environment, directory=str(tmp_path))[port]

    assert resolved({}, {}) == 1
    assert resolved({}, {"RESONATE_SERVER__PORT": "2"}) == 2
    assert resolved({port: 3}, {"RESONATE_SERVER__PORT": "2"}) == 3
    assert resolve({}, {}, directory=str(tmp_path), defaults={port: 9})[port] == 1
    assert resolve({}, {}, defaults={port: 9}).settings[port].source == "default of this command"


def test_variables_of_the_client_are_not_ours() -> None:
    config = resolve({}, {"RESONATE_URL": "http://elsewhere", "RESONATE_TOKEN": "t", "RESONATE_HOST": "h"})

    assert config["url"] is None
    assert config["server.host"] == "localhost"


def test_the_official_name_of_a_shared_variable_counts_too() -> None:
    assert resolve({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "h:1"})["observability.otlp_endpoint"] == "h:1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[server]\nprot = 1\n",
            r"toml:2: server\.prot is no setting of the server; did you mean server\.port",
        ),
        ("[server]\nport = true\n", r"resonate\.toml:2: server\.port must be a whole number, got True"),
        ("\n\n[server]\nport = -1\n", r"resonate\.toml:4: server\.port must be at least 0, got -1"),
        ("level = 'loud'\n", r"resonate\.toml:1: level must be one of debug, info, warn, error, got 'loud'"),
        ("[auth]\npublickey = 5\n", r"auth\.publickey must be a text, got 5"),
        ("[storage]\ntype = 'mysql'\n", r"storage\.type = 'mysql' is not offered .*it has: memory, sqlite"),
        ("[transports.gcps]\nenabled = true\n", r"transports\.gcps\.enabled = True is not offered"),
        ("[tasks]\nfence_preload = 'some'\n", r"tasks\.fence_preload must be a whole number or `all`, got 'some'"),
        ("= 1", "is no TOML"),
        ("strict = true", "needs --debug"),
        ("[server.tls]\nkey = 'k'\n", "belong together"),
        ("[transports.http_push.auth]\nmode = 'bearer'\n", r"auth\.token is needed"),
        ("url = 'memory'\n[storage]\ntype = 'sqlite'\n", "both say where state lives"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place_and_what_is_right(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "resonate.toml").write_text(text)

    with pytest.raises(UsageError, match=said):
        resolve({}, {}, directory=str(tmp_path))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RESONATE_SERVER__PROT": "1"}, "RESONATE_SERVER__PROT is no setting .*did you mean RESONATE_SERVER__PORT"),
        ({"RESONATE_SERVER__PORT": "many"}, "RESONATE_SERVER__PORT must be a whole number, got 'many'"),
        ({"RESONATE_DEBUG": "perhaps"}, "RESONATE_DEBUG must be true or false, got 'perhaps'"),
        ({"RESONATE_AUTH__TOKENS": "{hunter2"}, "RESONATE_AUTH__TOKENS must be a JSON array"),
        ({"RESONATE_AUTH__PUBLICKEY": ""}, "RESONATE_AUTH__PUBLICKEY is empty: give it a value, or unset it"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        resolve({}, environment)
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_named_and_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="does not exist"):
        resolve({}, {}, "/nowhere/resonate.toml")


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    config = resolve({}, {"RESONATE_AUTH__TOKENS": '[{"secret": "hunter2"}]', "RESONATE_AUTH__PUBLICKEY": "none"})

    assert config.settings["auth.tokens"].shown == MASK
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "needs a text `secret`"),
        ({"secret": "x", "rolle": "admin"}, "holds a key 'rolle'; it may have secret, name, role, prefix, groups"),
        ({"secret": "x", "groups": "a"}, "groups of auth.tokens must be a list of texts"),
        ({"secret": "x", "role": 1}, "`role` of auth.tokens must be a text"),
    ],
)
def test_a_fixed_token_that_cannot_be_used_is_refused_before_anything_is_opened(
    entry: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config = resolve({"storage.sqlite.path": f"{tmp_path}/a.db"}, {"RESONATE_AUTH__TOKENS": json.dumps([entry])})

    with pytest.raises(UsageError, match=said), open_server(config):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_does_not_exist_is_refused() -> None:
    with (
        pytest.raises(UsageError, match=r"state cannot live in mysql:…: --url takes"),
        open_server(resolve({"url": "mysql://h/d"}, {})),
    ):
        pass


def test_a_database_that_cannot_be_used_is_an_error_that_names_it_without_its_password() -> None:
    with (
        pytest.raises(StorageUnusable, match=r"postgresql://no-such-host\.invalid/d cannot be used") as refused,
        open_server(resolve({"url": "postgresql://me:secret@no-such-host.invalid/d"}, {})),
    ):
        pass

    assert "secret" not in str(refused.value)


def test_a_type_of_storage_without_its_url_is_refused() -> None:
    with pytest.raises(UsageError, match=r"storage\.postgres\.url is needed"):
        resolve({"storage.type": "postgres"}, {})


def test_the_password_of_a_url_is_not_printed() -> None:
    config = resolve({"url": "postgresql://me:secret@h/d"}, {})

    assert config.settings["url"].shown == "postgresql://h/d"


@given(st.lists(st.sampled_from([key for key in TABLE if key.kind == "integer"]), unique=True), st.data())
def test_numbers_come_back_as_they_were_given(keys: list[Key], data: st.DataObject) -> None:
    given = {key.path: data.draw(st.integers(key.least, 2**40)) for key in keys}

    config = resolve(given, {})

    assert {path: config[path] for path in given} == given
    assert {path: config[path] for path in KEYS if path not in given} == {
        path: key.default for path, key in KEYS.items() if path not in given
    }


def test_the_page_of_settings_is_the_table() -> None:
    written = Path(__file__).parents[2] / "docs" / "configuration.md"

    assert written.read_text() == page(), "python -m resonate.server.describing > docs/configuration.md"
