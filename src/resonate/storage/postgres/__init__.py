"""A PostgreSQL database as a storage; `psycopg` is imported where one is opened, not before."""

from __future__ import annotations
