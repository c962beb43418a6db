"""The constructor: every parameter with its checks, and what the environment adds."""

from __future__ import annotations

import inspect
import logging
import math
import threading
from datetime import timedelta
from typing import Any

import pytest

from resonate import Resonate
from resonate.dependencies import Dependencies
from resonate.errors import NotSupported
from resonate.registry import Registry
from resonate.settings import Settings, resolve
from resonate.stores import LocalStore
from tests.homes import named

PARAMETERS = [
    "url",
    "auth",
    "token",
    "group",
    "pid",
    "ttl",
    "log_level",
    "workers",
    "store",
    "message_source",
    "dependencies",
    "registry",
    "max_concurrent",
    "retention",
]


def settings(environment: dict[str, str] | None = None, **given: Any) -> Settings:
    defaults: dict[str, Any] = {
        "url": None,
        "auth": None,
        "token": None,
        "group": "default",
        "pid": None,
        "ttl": 10,
        "log_level": "INFO",
        "workers": None,
        "max_concurrent": 1000,
    }
    return resolve(**{**defaults, **given}, environment=environment or {})


# ---- parameters ------------------------------------------------------------------------------------


def test_every_parameter_is_keyword_only_and_optional() -> None:
    parameters = inspect.signature(Resonate).parameters

    assert list(parameters) == PARAMETERS
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert all(p.default is not inspect.Parameter.empty for p in parameters.values())


def test_a_positional_url_is_refused() -> None:
    with pytest.raises(TypeError):
        Resonate("http://localhost:8001")  # type: ignore[call-arg]


def test_the_constructor_starts_no_thread() -> None:
    before = threading.active_count()

    Resonate()

    assert threading.active_count() == before


def test_the_defaults_are_those_of_the_contract() -> None:
    client = Resonate()

    assert client.group == "default"
    assert len(client.pid) == 32
    assert int(client.pid, 16) >= 0


def test_group_and_pid_are_as_given_and_two_clients_have_two_pids() -> None:
    client = Resonate(group="billing", pid="worker-1")

    assert (client.group, client.pid) == ("billing", "worker-1")
    assert Resonate().pid != Resonate().pid


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"url": 1}, "url must be `str | None`, got int"),
        ({"url": b"http://h"}, "url must be `str | None`, got bytes"),
        ({"auth": "user:password"}, "auth must be a pair"),
        ({"auth": ("user",)}, "auth must be a pair"),
        ({"auth": ("user", 1)}, "auth must be a pair"),
        ({"token": 1}, "token must be `str | None`, got int"),
        ({"group": None}, "group must be `str`, got NoneType"),
        ({"group": 1}, "group must be `str`, got int"),
        ({"pid": 1}, "pid must be `str`, got int"),
        ({"ttl": 1.5}, "ttl must be `int` .*, got float"),
        ({"ttl": "10"}, "ttl must be `int` .*, got str"),
        ({"ttl": True}, "ttl must be `int` .*, got bool"),
        ({"ttl": None}, "ttl must be `int` .*, got NoneType"),
        ({"log_level": 1.5}, "log_level must be `int | str`, got float"),
        ({"log_level": None}, "log_level must be `int | str`, got NoneType"),
        ({"log_level": True}, "log_level must be `int | str`, got bool"),
        ({"workers": "a"}, "workers must be `int`, got str"),
        ({"workers": 1.0}, "workers must be `int`, got float"),
        ({"workers": True}, "workers must be `int`, got bool"),
        ({"max_concurrent": None}, "max_concurrent must be `int`, got NoneType"),
        ({"max_concurrent": "1"}, "max_concurrent must be `int`, got str"),
        ({"retention": "7d"}, "retention must be `int | float | timedelta` .*, got str"),
        ({"retention": True}, "retention must be .*, got bool"),
        ({"store": object()}, "store must be `Store | None`, got object"),
        ({"message_source": object()}, "message_source must be `MessageSource | None`, got object"),
        ({"dependencies": {}}, "dependencies must be `Dependencies | None`, got dict"),
        ({"registry": {}}, "registry must be `Registry | None`, got dict"),
    ],
    ids=named,
)
def test_a_parameter_of_a_wrong_type_is_a_type_error_that_names_it(given: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text.replace("|", r"\|")):
        Resonate(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"url": "localhost:8001"}, "url 'localhost:8001' is of no known kind"),
        ({"url": "ftp://h"}, "url 'ftp://h' is of no known kind; known are sqlite:///FILE"),
        ({"url": "app.db"}, "no known kind"),
        ({"url": "http://"}, "url 'http://' is no address of a server: write http://HOST:PORT"),
        ({"url": "http://h:port"}, "url 'http://h:port' is no address of a server: Port could not be cast"),
        ({"url": "http://h:99999"}, "is no address of a server: Port out of range"),
        ({"url": "http://h/?a=b"}, "is no address of a server"),
        ({"url": "http://h/a b"}, "is no address of a server"),
        ({"url": "http://h/\xe4"}, "is no address of a server"),
        ({"url": "http://h", "token": "a\nb"}, "token must be printable ASCII"),
        ({"group": ""}, "group '' must not be empty"),
        ({"group": "a b"}, "group 'a b' must not"),
        ({"group": "a/b"}, "group 'a/b' must not"),
        ({"group": "a\0b"}, "holds a NUL"),
        ({"pid": ""}, "pid '' must not be empty"),
        ({"pid": "a@b"}, "pid 'a@b' must not"),
        ({"ttl": 0}, "ttl must be at least 1 second, got 0"),
        ({"ttl": -1}, "ttl must be at least 1 second, got -1"),
        ({"ttl": 10**30}, "ttl must be at most"),
        ({"log_level": "TRACE"}, "log_level must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got 'TRACE'"),
        ({"log_level": "debug"}, "log_level must be one of"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"max_concurrent": 0}, "max_concurrent must be at least 1, got 0"),
        ({"retention": -1}, "retention must be greater than or equal to zero, got -1"),
        ({"retention": 0}, "retention must be more than zero"),
        ({"retention": float("nan")}, "retention must be a number of seconds, got nan"),
        ({"retention": -float("inf")}, "retention must be greater than or equal to zero"),
        ({"store": LocalStore()}, "store and message_source must both be set or both be unset"),
        (
            {"message_source": LocalStore().message_source("default", "p")},
            "store and message_source must both be set or both be unset",
        ),
    ],
    ids=named,
)
def test_a_parameter_of_a_wrong_value_is_a_value_error_that_names_it(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Resonate(**given)


def test_a_group_of_the_environment_must_fit_an_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONATE_GROUP", "http://localhost:9/x")

    with pytest.raises(ValueError, match="RESONATE_GROUP 'http://localhost:9/x' must not"):
        Resonate()


def test_retention_is_seven_days_in_a_file_and_for_ever_in_memory_unless_it_is_given() -> None:
    file = "sqlite:///app.db"

    assert settings(url=file).retention == 7 * 86_400
    assert settings().retention == math.inf
    assert settings(retention=timedelta(hours=1)).retention == 3600
    assert settings(url=file, retention=math.inf).retention == math.inf


def test_retention_is_refused_beside_a_store_of_the_programs_own() -> None:
    store = LocalStore()

    with pytest.raises(ValueError, match="retention must be left out where a store is given"):
        Resonate(store=store, message_source=store.message_source("default", "p"), retention=60)


def test_a_database_is_refused_with_what_to_install_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonate.settings.find_spec", lambda name: None)

    with pytest.raises(NotSupported, match=r"pip install 'resonate-py\[postgres\]'"):
        Resonate(url="postgresql://h/db")


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("schema=My-Schema", "schema must be"),
        ("schema=pg_x", "schema must be"),
        ("lanes=0", "lanes must be"),
        ("pool=many", "pool must be"),
        ("pool=1&pool=2", "given twice"),
        ("target_session_attrs=standby", "asks for a server that cannot be written to"),
        ("target_session_attrs=read-only", "asks for a server that cannot be written to"),
    ],
)
def test_options_of_a_database_are_checked_when_the_client_is_made(query: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as refused:
        Resonate(url=f"postgresql://me:secret@h/db?{query}")

    assert "secret" not in str(refused.value)


def test_a_password_in_a_refused_url_is_not_shown() -> None:
    with pytest.raises(ValueError, match="no known kind") as refused:
        Resonate(url="mysql://me:secret@h/db")

    assert "secret" not in str(refused.value)
    assert "mysql://" in str(refused.value)


def test_the_first_of_several_wrong_parameters_is_named_in_the_order_of_the_contract() -> None:
    wrong: dict[str, Any] = {
        "dependencies": 1,
        "group": 1,
        "log_level": 1.5,
        "message_source": 1,
        "pid": 1,
        "registry": 1,
        "store": 1,
        "ttl": 1.5,
    }
    named = []

    while wrong:
        with pytest.raises(TypeError) as refused:
            Resonate(**wrong)
        named.append(str(refused.value).partition(" ")[0])
        del wrong[named[-1]]

    assert named == ["dependencies", "group", "log_level", "message_source", "pid", "registry", "store", "ttl"]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_a_log_level_may_be_a_name_or_a_number(level: str) -> None:
    assert settings(log_level=level).log_level == getattr(logging, level)
    assert settings(log_level=getattr(logging, level)).log_level == getattr(logging, level)


def test_workers_are_at_most_32_and_none_or_zero_mean_one_per_core() -> None:
    assert settings(workers=5).workers == 5
    assert settings(workers=10**6).workers == 32
    assert settings(workers=None).workers == settings(workers=0).workers
    assert 1 <= settings(workers=0).workers <= 32


@pytest.mark.parametrize("number", [1, 10**400], ids=["one", "huge"])
def test_any_whole_number_from_one_may_bound_the_executions(number: int) -> None:
    assert settings(max_concurrent=number).max_concurrent == number


def test_the_log_level_is_that_of_the_loggers_of_functions(caplog: pytest.LogCaptureFixture) -> None:
    def speaks(ctx: Any) -> None:
        ctx.logger.info("softly")
        ctx.logger.error("loudly")

    caplog.set_level(logging.DEBUG, "resonate")
    for level, id in ((logging.ERROR, "quiet"), ("INFO", "chatty")):
        with Resonate(log_level=level) as client:
            client.register(speaks)
            client.run(id, speaks)

    said = [(message.split("]")[0].strip("["), message.split()[-1]) for message in caplog.messages if "ly" in message]
    assert said == [("quiet", "loudly"), ("chatty", "softly"), ("chatty", "loudly")]


def test_containers_are_shared_and_not_copied_even_when_empty() -> None:
    registry, dependencies = Registry(), Dependencies()
    first = Resonate(registry=registry, dependencies=dependencies)

    @first.register
    def answer(ctx: Any) -> int:
        return int(ctx.dependencies["answer"])

    dependencies.add("answer", 42)

    with Resonate(registry=registry, dependencies=dependencies) as second:
        assert second.run("shared", "answer") == 42


def test_two_clients_without_containers_share_nothing() -> None:
    first, second = Resonate(), Resonate()
    first.register(lambda ctx: 1, name="f")

    second.register(lambda ctx: 2, name="f")

    assert (first.run("x", "f"), second.run("x", "f")) == (1, 2)
    first.stop()
    second.stop()


# ---- environment -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"RESONATE_URL": "http://a:1"}, "http://a:1"),
        ({"RESONATE_URL": "http://a:1", "RESONATE_HOST": "h"}, "http://a:1"),
        ({"RESONATE_URL": "", "RESONATE_HOST": "h"}, "http://h:8001"),
        ({"RESONATE_HOST": "h"}, "http://h:8001"),
        ({"RESONATE_HOST": "h", "RESONATE_PORT": "9"}, "http://h:9"),
        ({"RESONATE_HOST": "h", "RESONATE_PORT": ""}, "http://h:8001"),
        ({"RESONATE_HOST": "h", "RESONATE_SCHEME": "https"}, "https://h:8001"),
        ({"RESONATE_HOST": "h", "RESONATE_SCHEME": ""}, "http://h:8001"),
        ({"RESONATE_HOST": "http://h"}, "http://h:8001"),
        ({"RESONATE_HOST": "https://h", "RESONATE_SCHEME": "http"}, "https://h:8001"),
        ({"RESONATE_HOST": "http://h:7"}, "http://h:7"),
        ({"RESONATE_HOST": "http://h:7", "RESONATE_PORT": "9"}, "http://h:7"),
        ({"RESONATE_HOST": "http://h/"}, "http://h:8001"),
        ({"RESONATE_HOST": "http://h/base"}, "http://h:8001/base"),
        ({"RESONATE_HOST": "h:7"}, "http://h:7"),
        ({"RESONATE_HOST": "::1"}, "http://[::1]:8001"),
        ({"RESONATE_HOST": "[::1]"}, "http://[::1]:8001"),
    ],
    ids=named,
)
def test_the_address_comes_from_the_url_variable_else_from_the_host(environment: dict[str, str], url: str) -> None:
    resolved = settings(environment)

    assert (resolved.url, resolved.server, resolved.file) == (url, url, None)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RESONATE_PORT": "8001"},
        {"RESONATE_SCHEME": "https", "RESONATE_PORT": "8001"},
        {"RESONATE_URL": "", "RESONATE_HOST": ""},
    ],
    ids=named,
)
def test_without_url_or_host_state_stays_in_memory(environment: dict[str, str]) -> None:
    assert settings(environment).url is None


def test_the_url_argument_beats_the_variables_and_an_empty_one_does_not() -> None:
    environment = {"RESONATE_URL": "http://variable:1"}

    assert settings(environment, url="http://argument:1").server == "http://argument:1"
    assert settings(environment, url="").server == "http://variable:1"


@pytest.mark.parametrize("port", ["http", "99999999", "-1"])
def test_a_host_with_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(ValueError, match="RESONATE_PORT"):
        settings({"RESONATE_HOST": "h", "RESONATE_PORT": port})


@pytest.mark.parametrize(
    ("environment", "given", "token", "auth"),
    [
        ({}, {}, None, None),
        ({"RESONATE_TOKEN": "t"}, {}, "t", None),
        ({"RESONATE_TOKEN": "t"}, {"token": "argument"}, "argument", None),
        ({"RESONATE_TOKEN": "t"}, {"token": ""}, "t", None),
        ({"RESONATE_TOKEN": ""}, {}, None, None),
        ({"RESONATE_USERNAME": "u"}, {}, None, ("u", "")),
        ({"RESONATE_USERNAME": "u", "RESONATE_PASSWORD": "p"}, {}, None, ("u", "p")),
        ({"RESONATE_PASSWORD": "p"}, {}, None, None),
        ({"RESONATE_USERNAME": "u", "RESONATE_PASSWORD": "p"}, {"auth": ("me", "x")}, None, ("me", "x")),
        ({"RESONATE_TOKEN": "t", "RESONATE_USERNAME": "u"}, {}, "t", ("u", "")),
        ({}, {"auth": ["me", "x"]}, None, ("me", "x")),
    ],
)
def test_token_and_basic_auth_come_from_argument_or_variable_one_by_one(
    environment: dict[str, str], given: dict[str, Any], token: str | None, auth: tuple[str, str] | None
) -> None:
    resolved = settings(environment, **given)

    assert (resolved.token, resolved.auth) == (token, auth)


@pytest.mark.parametrize("variable", ["RESONATE_URL", "RESONATE_HOST"])
def test_the_constructor_reads_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://h:1")

    assert Resonate()._core.settings.server == "http://h:1"


def test_no_variable_is_read_beside_a_store_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONATE_URL", "http://h:1")
    store = LocalStore()

    with Resonate(pid="p", store=store, message_source=store.message_source("default", "p")) as client:
        client.register(lambda ctx: 42, name="f")

        assert client.run("own", "f") == 42
    store.stop()


def test_a_store_of_ones_own_is_used_whatever_the_url_says() -> None:
    store = LocalStore()
    source = store.message_source("default", "p")

    with Resonate(url="http://h:1", pid="p", store=store, message_source=source) as client:
        client.register(lambda ctx: 42, name="f")

        assert client.run("own", "f") == 42
    assert store.promises.get("own").state == "RESOLVED"


# ---- old spellings ------------------------------------------------------------------------------------


def test_local_is_the_constructor_without_a_url() -> None:
    client = Resonate.local(group="g", pid="p", ttl=5)

    assert (type(client), client.group, client.pid) == (Resonate, "g", "p")


def test_local_is_local_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONATE_URL", "http://h:1")

    with Resonate.local() as client:
        client.register(lambda ctx: 42, name="f")

        assert client.run("local", "f") == 42


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://localhost:8001"),
        ({"host": "http://h"}, "http://h:8001"),
        ({"host": "h"}, "http://h:8001"),
        ({"host": "https://h", "store_port": 9}, "https://h:9"),
        ({"host": "https://h", "store_port": "9", "message_source_port": "10", "group": "g"}, "https://h:9"),
    ],
    ids=named,
)
def test_remote_makes_a_url_of_host_and_store_port(given: dict[str, Any], url: str) -> None:
    assert Resonate.remote(**given)._core.settings.server == url


def test_remote_called_on_a_client_as_programs_in_the_wild_do_is_the_same() -> None:
    client = Resonate().remote(group="g")

    assert (client._core.settings.server, client._core.settings.group) == ("http://localhost:8001", "g")


def test_a_subclass_keeps_its_class_in_the_old_spellings() -> None:
    class Mine(Resonate):
        pass

    assert type(Mine.local()) is Mine
