"""What a client makes of a URL, with all else as it is mostly."""

from __future__ import annotations

from collections.abc import Mapping

from resonate.settings import Settings, resolve


def resolved(url: str | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a client of `url`, which are refused if there are none."""
    return resolve(
        url=url,
        auth=None,
        token=None,
        group="g",
        pid=None,
        ttl=1,
        log_level=20,
        workers=1,
        max_concurrent=1,
        environment=environment,
    )
