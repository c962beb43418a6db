"""Recorded conversations with the official server, and who plays them to another one: `resonate conformance URL`."""
