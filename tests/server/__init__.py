"""Tests of the server: authentication, push, HTTP."""
