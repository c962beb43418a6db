"""One acquired task and the calls under it, as pure state: no thread, loop, socket or clock."""
