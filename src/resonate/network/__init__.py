"""Where requests go: embedded in this process, or over a wire."""
