"""`resonate migrate`: make or upgrade the tables of a PostgreSQL schema, for programs that may not do so themselves."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from resonate.cli.home import fail
from resonate.errors import ResonateError
from resonate.storage.postgres.location import SCHEMES, parse


def migrate(
    url: Annotated[
        str | None, typer.Option("--url", help="The database; default RESONATE_URL", show_default=False)
    ] = None,
) -> None:
    """Make or upgrade resonate's tables in a PostgreSQL schema.

    Programs and servers do this by themselves where their role may; run it once per release, with a role that owns
    the schema, where they may not. Running it again does no harm. Servers of the older version go on meanwhile.
    """
    wanted = url or os.environ.get("RESONATE_URL") or ""
    try:
        if wanted.partition(":")[0] not in SCHEMES:
            raise ValueError(
                "name the database: --url postgresql://USER@HOST/DATABASE (files are migrated when opened)"
            )
        location = parse(wanted)
        if find_spec("psycopg") is None:
            raise ValueError("psycopg is not installed: python -m pip install 'resonate-py[postgres]'")
        from resonate.storage.postgres.storage import migrate as bring  # brings psycopg

        before, after = bring(location)
    except (ValueError, ResonateError) as error:
        fail(error, "resonate migrate")
    where = f"schema {location.schema} of {location.shown}"
    done = "is up to date" if before == after else f"was brought from version {before}" if before else "was made"
    typer.echo(f"{where} {done} (version {after})")


__all__ = ["migrate"]
