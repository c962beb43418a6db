"""The dashboard: what happened, why it waits, and how it goes on, as a page.

`app(url)` is an ASGI application for any server: `app.mount("/resonate", resonate.ui.app(url))`.
Our own server has it at `/ui`. Its files are plain and lie beside this one; nothing comes from elsewhere.
"""

from resonate.ui.access import Access, Poller, Refused
from resonate.ui.application import Dashboard
from resonate.ui.home import app

__all__ = ["Access", "Dashboard", "Poller", "Refused", "app"]
