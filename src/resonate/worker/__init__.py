"""Drives executions: acquires tasks, runs user code, carries out what executions ask for."""
