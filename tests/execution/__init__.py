"""Tests of the pure core: executions advanced by a driver of one thread, without clocks or sleeps."""
