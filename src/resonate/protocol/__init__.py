"""PURE: what the words mean."""
