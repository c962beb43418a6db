"""Rows at rest: load, save, find what is due; decides nothing."""
