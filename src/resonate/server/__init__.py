"""HTTP around a service: who may ask, what is pushed, how it is run. Needs the extra `server`.

`app` answers requests, `poll` streams messages, `auth` checks tokens, `running` puts it on a port.
"""
