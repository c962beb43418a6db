"""HTTP around a service: who may ask, what is pushed, how it is run. Needs the extra `server`."""
