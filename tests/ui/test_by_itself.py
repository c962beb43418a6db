"""`resonate ui`, a process of its own on a file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from resonate import Resonate


def test_a_file_is_shown_without_a_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with Resonate(url=url) as client:
        client.promises.create("by-hand", 10**14)
        command = [sys.executable, "-m", "resonate.cli", "ui", "--url", url, "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                where = process.stderr.readline().split(" is at ")[1].strip()
                with urllib.request.urlopen(f"{where}api/call?id=by-hand", timeout=20) as answer:
                    found = json.load(answer)
                action = urllib.request.Request(
                    f"{where}api/act/settle",
                    json.dumps({"id": "by-hand", "how": "resolve", "value": "42"}).encode(),
                    {"resonate-action": "1"},
                )
                with urllib.request.urlopen(action, timeout=20) as answer:
                    said = json.load(answer)
                process.send_signal(signal.SIGINT)
                process.wait(20)
            finally:
                process.kill()

        assert (found["state"], found["kind"]) == ("pending", "promise")
        assert said == {"text": "by-hand is resolved"}
        assert client.get("by-hand").status().output == 42
