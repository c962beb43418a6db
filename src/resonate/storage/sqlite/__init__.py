"""Rows at rest in one SQLite file, shared by any number of processes of one machine.

`location` reads URLs, `schema` makes tables, `connection` is one open file with its lock,
`rows` are the rows of one transaction, `storage` is the whole, `peers` wakes other
processes. Nothing here is imported, and neither is `sqlite3`, before a URL asks for it.
"""
