"""Speed, measured against the official SDKs in their local modes: `python -m benchmarks`."""
