"""The rendered Caddyfiles at work: a real Caddy in front of real gateways in front of real `llama-server`s."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ray.deploy.caddy import render_caddyfile, render_pool
from ray.deploy.settings import DeploySettings
from tests.deploy.support import settings_for
from tests.integration.backend import (
    Answer,
    GatewayProcess,
    LlamaServerProcess,
    ask,
    free_port,
    llama_cpp_config,
    wait_until,
)
from tests.integration.caddy import CaddyProcess
from tests.integration.conftest import StartGateway, StartLlamaServer
from tests.integration.namespaces import missing

KEY = "a-key-for-the-test"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
LONG = {"input": "Write a very long story about a river.", "maxTokens": 128, "temperature": 0, "cache": False}
SHORT = {"input": "Say hello.", "maxTokens": 4, "cache": False}
BODY_LIMIT = 8_000

StartCaddy = Callable[[Callable[[str], str], str], CaddyProcess]


@pytest.fixture
def start_caddy(tmp_path: Path) -> Iterator[StartCaddy]:
    """Starts a Caddy on a free port: `render` makes its file for a site address with this scheme."""
    found = shutil.which("caddy")
    if found is None:
        missing("no caddy on PATH: apt-get install caddy")
    started: list[CaddyProcess] = []

    def start(render: Callable[[str], str], scheme: str = "http") -> CaddyProcess:
        port = free_port()
        # A client sends no name with an address, and Caddy has nothing to choose a certificate by.
        host = "localhost" if scheme == "https" else "127.0.0.1"
        caddy = CaddyProcess(Path(found), render(f"{scheme}://{host}:{port}"), port, tmp_path)
        started.append(caddy)
        caddy.start()
        return caddy

    yield start
    for caddy in started:
        caddy.stop()


def settings(gateway: GatewayProcess, address: str) -> DeploySettings:
    return settings_for(["--config", str(gateway.config_path), "--domain", address])


def in_front_of(gateway: GatewayProcess) -> Callable[[str], str]:
    return lambda address: render_caddyfile(settings(gateway, address))


def config(server: LlamaServerProcess, **changes: object) -> dict[str, Any]:
    """Of a gateway that gives a busy machine time."""
    document: dict[str, Any] = {
        **llama_cpp_config(server),
        "server": {"requestBodyLimitBytes": BODY_LIMIT},
        "scheduler": {"concurrency": server.slots, "maxInflightTokens": server.ctx_size, "requestTimeoutMs": 110_000},
        **changes,
    }
    document["model"]["adapter"]["timeoutMs"] = 110_000
    return document


@pytest.fixture
def gateway(llama_server: LlamaServerProcess, start_gateway: StartGateway) -> GatewayProcess:
    """With keys."""
    gateway = start_gateway(config(llama_server, auth={"enabled": True}), {"RAY_API_KEYS": KEY})
    gateway.wait_ready()
    return gateway


@pytest.fixture
def caddy(gateway: GatewayProcess, start_caddy: StartCaddy) -> CaddyProcess:
    return start_caddy(in_front_of(gateway), "http")


@contextmanager
def streamed(
    port: int, document: Mapping[str, object], headers: Mapping[str, str]
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request for a stream, unread. Leaving the block closes the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = json.dumps({**document, "stream": True})
        connection.request("POST", "/v1/infer", body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield response
    finally:
        connection.close()


def answers_so_far(gateway: GatewayProcess) -> object:
    """How many answers its backend has given to the end."""
    counters = gateway.get("/metrics", AUTHORIZED).json()["counters"]
    assert isinstance(counters, dict)
    return counters.get("requests.total", 0)


def test_given_a_key_when_asked_through_caddy_then_it_opens_the_gateway_and_nothing_else_does(
    caddy: CaddyProcess,
) -> None:
    without = ask(caddy.port, "POST", "/v1/infer", SHORT)
    wrong = ask(caddy.port, "POST", "/v1/infer", SHORT, {"authorization": "Bearer another"})
    right = ask(caddy.port, "POST", "/v1/infer", SHORT, AUTHORIZED)

    assert (without.status, wrong.status, right.status) == (401, 401, 200)
    assert without.headers["www-authenticate"].startswith("Bearer")
    assert isinstance(right.json()["output"], str)
    assert ask(caddy.port, "GET", "/metrics").status == 401
    assert ask(caddy.port, "GET", "/readyz").status == 200


def test_given_an_answer_when_it_comes_through_caddy_then_it_has_the_headers_of_the_site(caddy: CaddyProcess) -> None:
    answer = ask(caddy.port, "GET", "/v1/config", headers={**AUTHORIZED, "accept-encoding": "gzip"})

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-encoding"] == "gzip"
    assert "server" not in answer.headers


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_given_a_stream_when_its_first_token_has_come_through_caddy_then_the_model_is_still_at_work(
    encoding: str, caddy: CaddyProcess, llama_server: LlamaServerProcess
) -> None:
    with streamed(caddy.port, LONG, {**AUTHORIZED, "accept-encoding": encoding}) as response:
        first = response.readline()
        busy = llama_server.busy_slots()
        rest = response.read().decode()

    # Held back by Caddy, the first byte would come with the last.
    assert (first, busy) == (b"event: token\n", 1)
    assert rest.count("event: token") > 20
    assert rest.count("event: result") == 1


def test_given_a_running_answer_when_joined_through_caddy_then_the_burst_of_its_beginning_is_not_compressed(
    gateway: GatewayProcess, caddy: CaddyProcess
) -> None:
    shared = {**LONG, "dedupeKey": "one story"}
    with streamed(gateway.port, shared, AUTHORIZED) as leading:
        beginning = b""
        while beginning.count(b"\n\n") < 30:
            beginning += leading.readline()
        # All of it comes at once now, which is more than the size from which Caddy compresses.
        with streamed(caddy.port, shared, {**AUTHORIZED, "accept-encoding": "gzip, zstd"}) as following:
            encoding = following.getheader("content-encoding")
            follower = following.read().decode()

    assert encoding is None
    result = json.loads(follower.rpartition("data: ")[2])
    assert result["deduplicated"] is True


@pytest.mark.parametrize("stream", [False, True])
def test_given_a_client_that_leaves_when_it_had_asked_through_caddy_then_the_model_stops(
    stream: bool, gateway: GatewayProcess, caddy: CaddyProcess, llama_server: LlamaServerProcess
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", caddy.port, timeout=60)
    connection.request(
        "POST", "/v1/infer", json.dumps({**LONG, "stream": stream}), {"content-type": "application/json", **AUTHORIZED}
    )
    wait_until(lambda: llama_server.busy_slots() == 1, 30.0, "the model is at work")
    connection.close()
    wait_until(lambda: llama_server.busy_slots() == 0, 60.0, "the model is idle")

    # Nobody got an answer: had Caddy kept the leaving to itself, the gateway would have finished one.
    assert answers_so_far(gateway) == 0


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_given_a_body_when_it_is_larger_than_the_limit_then_413_says_so_and_at_the_limit_it_passes(
    declared: bool, caddy: CaddyProcess
) -> None:
    def post(size: int) -> Answer:
        text = json.dumps(SHORT)
        body = (text + " " * (size - len(text))).encode()
        connection = http.client.HTTPConnection("127.0.0.1", caddy.port, timeout=60)
        try:
            connection.request(
                "POST",
                "/v1/infer",
                body if declared else iter([body[:1000], body[1000:]]),
                {"content-type": "application/json", **AUTHORIZED},
                encode_chunked=not declared,
            )
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    assert post(BODY_LIMIT).status == 200
    for size in (BODY_LIMIT + 1, 4 * BODY_LIMIT):
        refused = post(size)
        assert refused.status == 413
        error = refused.json()["error"]
        assert isinstance(error, dict)
        assert (error["code"], str(BODY_LIMIT) in error["message"]) == ("body_too_large", True)
        assert "server" not in refused.headers


def test_given_two_clients_behind_caddy_when_one_has_used_its_budget_up_then_the_other_still_has_its_own(
    llama_server: LlamaServerProcess, start_gateway: StartGateway, start_caddy: StartCaddy
) -> None:
    limit = {"enabled": True, "maxRequests": 2, "windowMs": 3_600_000, "keyStrategy": "ip", "trustProxyHeaders": True}
    caddy = start_caddy(in_front_of(start_gateway(config(llama_server, rateLimit=limit))), "http")

    def status(source: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", caddy.port, timeout=60, source_address=(source, 0))
        try:
            sent = {
                "content-type": "application/json",
                **{name.replace("_", "-"): text for name, text in headers.items()},
            }
            connection.request("POST", "/v1/infer", json.dumps(SHORT), sent)
            return connection.getresponse().status
        finally:
            connection.close()

    assert [status("127.0.0.1") for _ in range(3)] == [200, 200, 429]
    assert status("127.0.0.2") == 200
    # What a client claims about itself, Caddy throws away.
    assert status("127.0.0.1", x_forwarded_for="198.51.100.7") == 429
    assert status("127.0.0.1", x_real_ip="198.51.100.7", forwarded="for=198.51.100.7") == 429


def test_given_a_gateway_that_is_away_when_asked_then_caddy_answers_in_its_form(
    gateway: GatewayProcess, caddy: CaddyProcess
) -> None:
    gateway.stop()

    answer = ask(caddy.port, "POST", "/v1/infer", SHORT, AUTHORIZED)

    assert answer.status == 502
    assert answer.json() == {"error": {"code": "gateway_unavailable", "message": "the gateway does not answer"}}
    assert answer.headers["retry-after"] == "2"
    assert "server" not in answer.headers


def test_given_an_https_site_when_asked_then_the_gateway_answers_behind_a_certificate(
    gateway: GatewayProcess, start_caddy: StartCaddy
) -> None:
    caddy = start_caddy(in_front_of(gateway), "https")

    def asked() -> bool:
        trusted = ssl.create_default_context(cafile=str(caddy.root_certificate))
        connection = http.client.HTTPSConnection("localhost", caddy.port, timeout=60, context=trusted)
        try:
            connection.request("GET", "/livez")
            answer: dict[str, object] = json.loads(connection.getresponse().read())
        except ssl.SSLError:
            return False
        finally:
            connection.close()
        assert answer["status"] == "ok"
        return True

    wait_until(lambda: caddy.root_certificate.exists() and asked(), 60.0, "Caddy has a certificate, and answers")


class Pool:
    """Two nodes, each a gateway with a backend of its own, behind one Caddy."""

    def __init__(
        self, tmp_path: Path, start_server: StartLlamaServer, start_gateway: StartGateway, start_caddy: StartCaddy
    ) -> None:
        self.servers = [start_server(slots=1, wait=False) for _ in range(2)]
        for server in self.servers:
            server.wait_healthy()
        self.gateways = [
            start_gateway(
                config(server, asyncQueue={"enabled": True, "storageDir": str(tmp_path / f"jobs-{server.port}")})
            )
            for server in self.servers
        ]
        for gateway in self.gateways:
            gateway.wait_ready()
        nodes = [f"127.0.0.1:{gateway.port}" for gateway in self.gateways]
        self.caddy = start_caddy(lambda address: render_pool(settings(self.gateways[0], address), nodes), "http")

    def ask(self) -> int:
        return ask(self.caddy.port, "POST", "/v1/infer", SHORT).status

    def wait_left_out(self, number: int) -> None:
        """Until Caddy has put this node aside. A check writes its line and then counts: the second one tells."""
        host = f'"host":"127.0.0.1:{self.gateways[number].port}"'
        failures = ('"status code out of tolerances"', '"HTTP request failed"')

        def failed_checks() -> int:
            lines = [line for line in self.caddy.log().splitlines() if "health_checker.active" in line and host in line]
            return sum(any(failure in line for failure in failures) for line in lines)

        before = failed_checks()
        wait_until(
            lambda: failed_checks() >= before + 2, 30.0, f"Caddy leaves the node out:\n{self.caddy.log()[-2000:]}"
        )

    def answers(self) -> list[object]:
        return [answers_so_far(gateway) for gateway in self.gateways]


@pytest.fixture
def pool(
    tmp_path: Path, start_llama_server: StartLlamaServer, start_gateway: StartGateway, start_caddy: StartCaddy
) -> Pool:
    return Pool(tmp_path, start_llama_server, start_gateway, start_caddy)


def test_given_two_nodes_when_the_backend_of_one_is_killed_then_the_other_answers_until_it_is_back(pool: Pool) -> None:
    pool.servers[0].kill9()
    # Until Caddy's next check a question may still meet the node, which says at once that it cannot.
    assert pool.ask() in (200, 502, 503)
    pool.wait_left_out(0)
    before = pool.answers()

    statuses = [pool.ask() for _ in range(10)]

    assert statuses == [200] * 10
    assert pool.answers()[0] == before[0]

    pool.servers[0].start()
    pool.gateways[0].wait_ready()

    def both_answer() -> bool:
        assert pool.ask() == 200
        return pool.answers()[0] != before[0]

    wait_until(both_answer, 60.0, "the node answers again")


def test_given_two_nodes_when_one_gateway_is_killed_then_the_other_answers(pool: Pool) -> None:
    pool.gateways[1].signal(signal.SIGKILL)
    pool.gateways[1].wait_exit()

    # Looking at something is tried on the other node at once; a question may have to be asked again until the check.
    assert [ask(pool.caddy.port, "GET", "/livez").status for _ in range(4)] == [200] * 4
    assert pool.ask() in (200, 502)
    pool.wait_left_out(1)
    assert [pool.ask() for _ in range(8)] == [200] * 8


def test_given_two_nodes_when_clients_break_uploads_off_then_no_node_is_blamed_for_it(pool: Pool) -> None:
    def oversized() -> int:
        """Without a declared length, so that Caddy notices in the middle of sending it on."""
        connection = http.client.HTTPConnection("127.0.0.1", pool.caddy.port, timeout=60)
        try:
            body = iter([b" " * BODY_LIMIT] * 3)
            connection.request("POST", "/v1/infer", body, {"content-type": "application/json"}, encode_chunked=True)
            return connection.getresponse().status
        finally:
            connection.close()

    assert [oversized() for _ in range(6)] == [413] * 6
    assert [pool.ask() for _ in range(4)] == [200] * 4


def test_given_two_nodes_when_one_is_at_work_then_the_next_question_goes_to_the_other(pool: Pool) -> None:
    def busy() -> list[int]:
        return [server.busy_slots() for server in pool.servers]

    with streamed(pool.caddy.port, LONG, {}) as first, streamed(pool.caddy.port, LONG, {}) as second:
        first.readline()
        second.readline()
        assert busy() == [1, 1]


def test_given_two_nodes_when_jobs_are_submitted_then_each_is_found_again(pool: Pool) -> None:
    for number in range(4):
        accepted = ask(pool.caddy.port, "POST", "/v1/jobs", {**SHORT, "seed": number})
        assert accepted.status == 202
        assert ask(pool.caddy.port, "GET", f"{accepted.headers['location']}?wait=20", timeout=60).status == 200
        listed = ask(pool.caddy.port, "GET", "/v1/jobs").json()["jobs"]
        assert isinstance(listed, list)
        assert len(listed) == number + 1
