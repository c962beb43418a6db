"""The running protocol: a storage, a clock, timers and delivery."""
