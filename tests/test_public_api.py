"""What programs may import and call: the public names, module by module, against a literal list."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Context, Handle, Promise, Resonate
from resonate.errors import ResonateError
from resonate.function import Function

ERRORS = """
    CapacityError ClientStopped DecodeError EncodeError ExecutionHalted ExecutionStopped ForgottenCommand
    ForkedClient FunctionNotFound IdConflict IdTooLong InsideEventLoop InvalidId NonDeterminismError NotACommand
    NotSupported OutcomeUnknown RemoteError ResonateCanceledError ResonateError ResonateShutdownError
    ResonateStoreError ResonateTimedoutError StorageUnavailable StorageUnusable TransactionTooLong UnfitArguments
    UnfitValue UsageError
"""

NAMES: dict[str, str] = {
    "resonate": "Context Handle Promise Resonate Yieldable",
    "resonate.resonate": "Aio Context Function Resonate",
    "resonate.handle": "Handle",
    "resonate.function": "Function",
    "resonate.options": "Options seconds",
    "resonate.registry": "Found Registry",
    "resonate.dependencies": "Dependencies",
    "resonate.retry_policies": "Constant Exponential FOR_EVER Linear Never RetryPolicy from_wire seconds to_wire",
    "resonate.encoders": """
        Base64Encoder CombinedEncoder Encoder HeaderEncoder JsonEncoder JsonPickleEncoder NoopEncoder PairEncoder
    """,
    "resonate.errors": ERRORS,
    "resonate.stores": """
        AioPromiseClient AioScheduleClient AioTaskClient Callback DurablePromise DurablePromiseValue
        LocalMessageSource LocalStore Poller PromiseClient RemoteStore Schedule ScheduleClient Task TaskClient
        network_for
    """,
    "resonate.telemetry": "JsonLines Metrics Observer Tracing",
    "resonate.signing": "SIGNATURE TIMESTAMP TOLERANCE sign verify",
    "resonate.testing": """
        CrashReport Crashed Event Fault Faults KillReport SettableClock Simulation Stuck Trace World WorldClient
        crash_at_every_checkpoint kill_at_every_write kill_at_random
    """,
    # what programs of the official clients import, where it is not above
    "resonate.coroutine": "LFC LFI Promise RFC RFI Yieldable",
    "resonate.message_sources": "LocalMessageSource Poller",
    "resonate.models.encoder": "Encoder",
    "resonate.models.handle": "Handle",
    "resonate.models.message_source": """
        InvokeMesg Mesg MessageSource NotifyMesg PromiseMesg ResumeMesg TaskMesg ValueMesg
    """,
    "resonate.models.retry_policy": "RetryPolicy",
    "resonate.models.store": """
        CallbackRecord PromiseRecord PromiseStore ScheduleRecord ScheduleStore Store TaskRecord TaskStore ValueRecord
    """,
    "resonate.error": """
        AlreadyRegisteredError ApplicationError Base64DecodeError ConnectorError DecodingError FunctionNotFoundError
        InvalidIdError PlatformError ResonateError ResonateTimeoutError SerializationError ServerError StoppedError
        Suspended
    """,
    "resonate.retry": "Constant Exponential Linear Never RetryPolicy",
    "resonate.types": "PromiseRecord PromiseState ScheduleRecord TaskRecord Value",
}

METHODS: dict[type, str] = {
    Resonate: """
        aio begin_rpc begin_run begin_run_in get group list local observe options pid promises purge register remote rpc
        run schedule schedules set_dependency start stop with_dependency
    """,
    Context: """
        all begin_rpc begin_run cancelled dependencies detached get_dependency id info lfc lfi logger map options
        promise race random rfc rfi rpc run sleep time transaction typesafe
    """,
    Handle: "aio cancel created done future id result resume status tree why",
    Function: "begin_rpc begin_run func name options rpc run",
    Promise: "cid id",
}

ALIASES = [
    ("resonate.coroutine.LFI", "resonate.execution.commands.LFI"),
    ("resonate.coroutine.Promise", "resonate.Promise"),
    ("resonate.coroutine.Yieldable", "resonate.Yieldable"),
    ("resonate.error.ApplicationError", "resonate.errors.ResonateError"),
    ("resonate.error.FunctionNotFoundError", "resonate.errors.FunctionNotFound"),
    ("resonate.error.ResonateTimeoutError", "resonate.errors.ResonateTimedoutError"),
    ("resonate.error.SerializationError", "resonate.errors.EncodeError"),
    ("resonate.error.ServerError", "resonate.errors.ResonateStoreError"),
    ("resonate.error.StoppedError", "resonate.errors.ClientStopped"),
    ("resonate.error.Suspended", "resonate.errors.ExecutionStopped"),
    ("resonate.error.AlreadyRegisteredError", "builtins.ValueError"),
    ("resonate.message_sources.LocalMessageSource", "resonate.stores.LocalMessageSource"),
    ("resonate.models.encoder.Encoder", "resonate.encoders.Encoder"),
    ("resonate.models.handle.Handle", "resonate.Handle"),
    ("resonate.models.retry_policy.RetryPolicy", "resonate.retry_policies.RetryPolicy"),
    ("resonate.resonate.Context", "resonate.Context"),
    ("resonate.context.Context", "resonate.Context"),
    ("resonate.resonate.Function", "resonate.function.Function"),
    ("resonate.retry.Exponential", "resonate.retry_policies.Exponential"),
    ("resonate.types.Value", "resonate.protocol.records.Value"),
]


def found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", NAMES)
def test_a_module_offers_exactly_the_listed_names(module: str) -> None:
    loaded = importlib.import_module(module)

    assert sorted(loaded.__all__) == sorted(NAMES[module].split())
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []
    assert loaded.__doc__


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_a_class_offers_exactly_the_listed_methods(cls: type) -> None:
    assert [name for name in dir(cls) if not name.startswith("_")] == sorted(METHODS[cls].split())


@pytest.mark.parametrize("cls", [Resonate, Context, Handle, Function], ids=lambda cls: cls.__name__)
def test_every_public_method_says_what_it_does(cls: type) -> None:
    silent = [name for name in dir(cls) if not name.startswith("_") and not inspect.getdoc(getattr(cls, name))]

    assert silent == []


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias[0])
def test_an_old_name_is_the_very_same_object_as_ours(alias: tuple[str, str]) -> None:
    old, ours = alias

    assert found(old) is found(ours)


@pytest.mark.parametrize("name", ERRORS.split())
def test_every_error_is_found_in_both_modules_of_errors(name: str) -> None:
    assert found(f"resonate.errors.errors.{name}") is found(f"resonate.errors.{name}")
    assert issubclass(found(f"resonate.errors.{name}"), BaseException)


def test_no_error_is_left_out_of_the_list() -> None:
    import resonate.errors.errors as errors

    defined = [name for name, each in vars(errors).items() if inspect.isclass(each) and not name.startswith("_")]

    assert sorted(name for name in defined if issubclass(getattr(errors, name), BaseException)) == sorted(
        ERRORS.split()
    )
    assert issubclass(errors.IdConflict, ResonateError)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("resonate.Resonate.register", "self func name version"),
        ("resonate.Resonate.options", "self given"),
        ("resonate.Resonate.run", "self id func args kwargs"),
        ("resonate.Resonate.begin_run", "self id func args kwargs"),
        ("resonate.Resonate.rpc", "self id func args kwargs"),
        ("resonate.Resonate.begin_rpc", "self id func args kwargs"),
        ("resonate.Resonate.get", "self id"),
        ("resonate.Resonate.schedule", "self id func cron args timeout version kwargs"),
        ("resonate.Resonate.set_dependency", "self name obj"),
        ("resonate.Resonate.start", "self"),
        ("resonate.Resonate.stop", "self timeout"),
        ("resonate.Handle.result", "self timeout"),
        ("resonate.Context.get_dependency", "self key default"),
        ("resonate.Context.promise", "self id timeout idempotency_key data tags"),
        ("resonate.Context.map", "self func items limit min_successful"),
        ("resonate.registry.Registry.add", "self func name version"),
        ("resonate.registry.Registry.get", "self func version"),
        ("resonate.registry.Registry.latest", "self func default"),
        ("resonate.retry_policies.Exponential", "delay max_retries factor max_delay"),
        ("resonate.retry_policies.Linear", "delay max_retries"),
        ("resonate.retry_policies.Constant", "delay max_retries"),
        ("resonate.errors.ResonateError", "mesg code details"),
        ("resonate.errors.ResonateTimedoutError", "promise_id timeout"),
    ],
)
def test_a_public_callable_has_the_parameters_of_the_contract(path: str, parameters: str) -> None:
    module, _, rest = path.rpartition(".")
    holder = found(module) if module.rpartition(".")[2][0].isupper() else importlib.import_module(module)

    assert list(inspect.signature(getattr(holder, rest)).parameters) == parameters.split()


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(resonate.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    ("short", "long"), [("lfc", "run"), ("lfi", "begin_run"), ("rfc", "rpc"), ("rfi", "begin_rpc")]
)
def test_the_short_names_of_context_methods_are_the_long_ones(short: str, long: str) -> None:
    assert getattr(Context, short) is getattr(Context, long)


def test_an_unknown_name_is_no_attribute_of_the_package() -> None:
    with pytest.raises(ImportError):
        from resonate import Client  # type: ignore[attr-defined]  # noqa: F401
