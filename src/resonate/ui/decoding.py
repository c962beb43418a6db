"""Values of programs that store them by an encoder of their own: read for the page, and written from its form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from resonate.encoders import Encoder
from resonate.errors import DecodeError, EncodeError
from resonate.protocol.records import PENDING, RAN, RESOLVED, Promise, Value
from resonate.protocol.requests import Request, Response
from resonate.ui.access import Send
from resonate.values import decode_error, encode, encode_error
from resonate.values.payload import decode_with, dumps, pack

TextEncoder = Encoder[Any, str | None]


class Payloads:
    """How values get into the form that the page knows, and back.

    Args:
        encoder: what programs give to `options(encoder=...)`; None where they store our own form.
    """

    def __init__(self, encoder: TextEncoder | None = None) -> None:
        self._encoder: Final = encoder

    def reading(self, send: Send) -> Send:
        """`send`, whose answers hold promises with readable values.

        What the encoder cannot read was written without it, and is left as it is.
        """
        if self._encoder is None:
            return send

        def read(requests: Sequence[Request]) -> list[Response]:
            return [self._answer(response) for response in send(requests)]

        return read

    def value(self, plain: Any) -> Value:
        """What a promise is resolved with.

        Raises:
            EncodeError: the encoder refuses it.
        """
        data, headers = encode(plain, "value", self._encoder)
        return Value(headers, data)

    def error(self, message: str) -> Value:
        """What a promise is rejected with: an exception with this text to whoever waits."""
        if self._encoder is None:
            form = {"__type": "error", "name": "Error", "message": message, "stack": ""}
            return Value(data=pack(dumps(form, "error")))
        data, headers, _ = encode_error(Exception(message), self._encoder)
        return Value(headers, data)

    def _answer(self, response: Response) -> Response:
        promise, promises = response.promise, response.promises
        if promise is None and promises is None:
            return response
        return replace(
            response,
            promise=None if promise is None else self._read(promise),
            promises=None if promises is None else [self._read(each) for each in promises],
        )

    def _read(self, promise: Promise) -> Promise:
        param = self._plain(promise.param)
        if promise.state == PENDING:
            return replace(promise, param=param)
        if promise.state == RESOLVED:
            return replace(promise, param=param, value=self._plain(promise.value))
        if not promise.value.data:
            return replace(promise, param=param)
        data, headers, _ = encode_error(decode_error(promise.value.data, promise.value.headers, self._encoder))
        return replace(promise, param=param, value=_in_place_of(promise.value, data, headers))

    def _plain(self, value: Value) -> Value:
        if not value.data or self._encoder is None:
            return value
        try:
            data, headers = encode(decode_with(self._encoder, value.data, "value"), "value")
        except (DecodeError, EncodeError):
            return value
        return _in_place_of(value, data, headers)


def _in_place_of(value: Value, data: str | None, headers: dict[str, str] | None) -> Value:
    """A readable payload; what `value` says of the attempts stays, for no encoder has written that."""
    ran = (value.headers or {}).get(RAN)
    return Value(headers if ran is None else {**(headers or {}), RAN: ran}, data)
