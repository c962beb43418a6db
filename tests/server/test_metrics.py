"""Metrics: the official names, and no label that a client can make up."""

from __future__ import annotations

import http.client

from resonate.protocol import requests as rq
from resonate.server.base import Listening, Settings
from resonate.server.push import PushSettings
from resonate.server.running import Server
from tests.server.receiver import receiving
from tests.server.serving import LATER, PATIENCE, Client, Listener, envelope, serving

SCHEDULE = {
    "id": "s",
    "cron": "* * * * *",
    "promiseId": "{{.id}}.{{.timestamp}}",
    "promiseTimeout": 1000,
    "promiseParam": {},
    "promiseTags": {"resonate:target": "poll://any@g"},
}


def metrics(server: Server) -> dict[str, float]:
    assert server.metrics_port is not None
    connection = http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200
    assert (answer.getheader("content-type") or "").startswith("text/plain")
    rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def test_requests_are_counted_by_kind_and_status_and_unknown_kinds_under_one_label() -> None:
    with serving(listening=Listening(port=0, metrics_port=0)) as server:
        client = Client(server)
        client.send(rq.PromiseCreate("a", LATER))
        client.batch([envelope("promise.get", {"id": "a"}), envelope("promise.get", {"id": "b"}), b"[]"])
        for number in range(50):
            client.answer(envelope(f"made.up.{number}", {}))

        found = metrics(server)
        client.close()

    assert found['resonate_request_total{kind="promise.create",status="200"}'] == 1
    assert found['resonate_request_total{kind="promise.get",status="200"}'] == 1
    assert found['resonate_request_total{kind="promise.get",status="404"}'] == 1
    assert found['resonate_request_total{kind="unknown",status="400"}'] == 51
    assert found['resonate_request_duration_seconds_count{kind="promise.get"}'] == 2
    assert [name for name in found if "made.up" in name] == []


def test_messages_and_their_deliveries_are_counted() -> None:
    with serving(listening=Listening(port=0, metrics_port=0)) as server:
        client, listener = Client(server), Listener(server)
        for number in range(3):
            client.send(rq.PromiseCreate(f"t{number}", LATER, tags={"resonate:target": "poll://any@g"}))
            listener.offer()
        client.send(rq.PromiseGet("t0"))

        found = metrics(server)
        client.close()
        listener.close()

    assert found['resonate_messages_total{kind="execute"}'] == 3
    assert found['resonate_deliveries_total{status="success"}'] == 3


def test_promises_of_schedules_are_counted() -> None:
    with serving(listening=Listening(port=0, metrics_port=0), debug=True) as server:
        client = Client(server)
        client.ask("debug.start", {})
        assert client.ask("schedule.create", SCHEDULE, **{"resonate:debug_time": 0})[0] == 200
        assert client.ask("debug.tick", {"time": 180_000})[0] == 200

        found = metrics(server)
        client.close()

    assert found["resonate_schedule_promises_total"] == 3


def test_two_servers_count_apart_and_one_without_a_port_has_no_metrics() -> None:
    listening = Listening(port=0, metrics_port=0)
    with serving(listening=listening) as one, serving(listening=listening) as two, serving() as none:
        client = Client(one)
        client.send(rq.PromiseGet("a"))
        client.close()

        name = 'resonate_request_total{kind="promise.get",status="404"}'
        assert metrics(one)[name] == 1
        assert name not in metrics(two)
        assert none.metrics_port is None


def test_a_server_that_pushes_says_where_to_talk_back_and_counts_its_deliveries() -> None:
    push = PushSettings(allow=("127.0.0.0/8",))
    with (
        receiving() as receiver,
        serving(
            settings=Settings(server_url="http://me:8001"), listening=Listening(port=0, metrics_port=0), push=push
        ) as server,
    ):
        client = Client(server)
        client.send(rq.PromiseCreate("t", LATER, tags={"resonate:target": receiver.url()}))
        pushed = receiver.wait(1)[0].json
        while "resonate_deliveries_total" not in str(found := metrics(server)):  # counted once it is answered
            pass
        client.close()

    assert pushed["head"] == {"serverUrl": "http://me:8001"}
    assert found['resonate_deliveries_total{status="success"}'] == 1


def test_a_server_tells_who_listens_what_ran_out_and_what_it_turned_away() -> None:
    with serving(settings=Settings(max_body=2000), listening=Listening(port=0, metrics_port=0), debug=True) as server:
        client, listener = Client(server), Listener(server)
        client.ask("debug.start", {})
        target, elsewhere = {"resonate:target": "poll://any@g"}, {"resonate:target": "poll://any@h"}
        at = {"resonate:debug_time": 0}
        client.ask("promise.create", {"id": "late", "timeoutAt": 10, "param": {}, "tags": elsewhere}, **at)
        client.ask("promise.create", {"id": "t", "timeoutAt": 10_000_000, "param": {}, "tags": target}, **at)
        listener.offer()
        client.ask("task.acquire", {"id": "t", "version": 0, "pid": "p", "ttl": 1000}, **at)
        client.answer(b"x" * 5000)
        client.ask("debug.tick", {"time": 5000})

        found = metrics(server)
        client.close()
        listener.close()

    assert found['resonate_streams{group="g"}'] == 1
    assert found['resonate_timers_fired_total{kind="deadline"}'] == 1
    assert found['resonate_timers_fired_total{kind="lease"}'] == 1
    assert found['resonate_refused_total{reason="too_large"}'] == 1
    assert found["resonate_requests_in_progress"] == 0
    assert found["resonate_timer_lag_seconds"] >= 0
