"""The dashboard: a page that shows what happened and why it waits, and gets it going again.

Mount it in any ASGI application: `app.mount("/resonate", resonate.ui.app(url))`. Our server has
it at `/ui`. The files of the page are in this package; nothing is loaded from elsewhere.
"""

from resonate.ui.pages import Dashboard, app

__all__ = ["Dashboard", "app"]
