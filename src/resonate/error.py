"""`resonate.errors` under the names that programs of the async generation import.

Each name is the nearest of ours. `ApplicationError` stood for several of them, so it is
their common base here.
"""

from __future__ import annotations

from resonate.errors import ClientStopped as StoppedError
from resonate.errors import DecodeError as Base64DecodeError
from resonate.errors import DecodeError as DecodingError
from resonate.errors import EncodeError as SerializationError
from resonate.errors import ExecutionStopped as PlatformError
from resonate.errors import ExecutionStopped as Suspended
from resonate.errors import FunctionNotFound as FunctionNotFoundError
from resonate.errors import InvalidId as InvalidIdError
from resonate.errors import ResonateError
from resonate.errors import ResonateError as ApplicationError
from resonate.errors import ResonateStoreError as ServerError
from resonate.errors import ResonateTimedoutError as ResonateTimeoutError
from resonate.errors import StorageUnavailable as ConnectorError

AlreadyRegisteredError = ValueError

__all__ = [
    "AlreadyRegisteredError",
    "ApplicationError",
    "Base64DecodeError",
    "ConnectorError",
    "DecodingError",
    "FunctionNotFoundError",
    "InvalidIdError",
    "PlatformError",
    "ResonateError",
    "ResonateTimeoutError",
    "SerializationError",
    "ServerError",
    "StoppedError",
    "Suspended",
]
