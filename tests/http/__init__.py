"""Tests of the protocol: machine, validation, wire, cron, addresses."""
