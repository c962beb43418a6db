"""The settings of a server as a page: `python -m resonate.server.describing > docs/configuration.md`."""

from __future__ import annotations

from collections.abc import Iterator

from resonate.server.config import TABLE, Key

HEAD = """# Configuration of a server

`resonate serve` and `resonate dev` take each setting from a flag, else from the environment, else from
`resonate.toml` in the working directory (or the file of `--config`), else its default.
`resonate serve --print-config` shows all of them and where each comes from. Durations are in milliseconds. Names that
are not in this table are errors.

```toml
# resonate.toml
level = "info"

[server]
port = 9000

[storage]
type = "sqlite"
sqlite = { path = "/var/lib/resonate.db" }

[[auth.tokens]]
secret = "..."
name = "billing"
prefix = "billing-"

[[auth.tokens]]
secret = "..."
name = "dashboard"
role = "reader"    # sees what its prefix allows, here everything, and changes nothing
prefix = ""
```

`resonate dev` differs in two defaults: state is in memory, and there is no port for metrics. Lists are separated by
commas in the environment, and their flags may be repeated. `auth.tokens` and `auth.users` have no flags, for
everybody on the machine could read them; in the environment they are JSON. Variables of clients, `RESONATE_URL` and
`RESONATE_TOKEN`, mean nothing to a server.

| setting | default | flag | variable | |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    for key in TABLE:
        flag = "" if key.kind == "entries" else f"`{key.option}`"
        variable = "" if key.path == "url" else f"`{key.variable}`"
        yield f"| `{key.path}` | {_default(key)} | {flag} | {variable} | {key.help}{_limits(key)} |"


def _default(key: Key) -> str:
    if key.default is None or key.default == ():
        return ""
    return f"`{str(key.default).lower() if isinstance(key.default, bool) else key.default}`"


def _limits(key: Key) -> str:
    if key.only is not None:
        offered = [f"`{str(value).lower()}`" for value in key.only if value is not None]
        return f"; only {' or '.join(offered)}" if offered else "; not offered"
    return f"; one of {', '.join(f'`{choice}`' for choice in key.choices)}" if key.choices else ""


if __name__ == "__main__":
    print(page(), end="")
