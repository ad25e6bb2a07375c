"""The emulator behind HTTP on loopback: cuts on a real connection, Host and Origin, framing, a clean end."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time

import anthropic
import httpx2
import pytest

from fsm.testing import Emulator, replies, serve

KEY = "sk-ant-canary-0123456789"
HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21", "content-type": "application/json"}


def request(content="Where is order 7?", **more):
    return {"model": "claude-sonnet-5", "max_tokens": 500, "messages": [{"role": "user", "content": content}]} | more


STREAMED = json.dumps(request(stream=True)).encode()

# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["in process", "socket"])
def connect(request):
    """A client for an emulator, over both ways."""
    opened = []

    def make(emulator):
        if request.param == "in process":
            return emulator.client()
        opened.append(serve(emulator))
        opened.append(anthropic.Anthropic(api_key=KEY, base_url=opened[-1].url, max_retries=0))
        return opened[-1]

    yield make
    for each in reversed(opened):
        each.close()


LONG = replies.text("A text that is long enough to be streamed in several deltas.")


def test_a_clean_cut_is_silent_in_the_sdk(connect):
    client = connect(Emulator([replies.cut(LONG, after=5)]))
    with client.messages.stream(**request()) as stream:
        message = stream.get_final_message()
    assert message.stop_reason is None  # E23
    assert LONG.content[0]["text"].startswith(message.content[0].text)


def test_a_lost_connection_raises_in_the_sdk(connect):
    client = connect(Emulator([replies.cut(LONG, after=5, clean=False)]))
    with client.messages.stream(**request()) as stream, pytest.raises(httpx2.RemoteProtocolError):
        stream.get_final_message()


def test_a_plain_body_is_cut_too(connect):
    client = connect(Emulator([replies.cut(LONG, after_bytes=30), replies.cut(LONG, after=1, clean=False)]))
    with pytest.raises(json.JSONDecodeError):  # E27
        client.messages.create(**request())
    with pytest.raises(anthropic.APIConnectionError):  # E27
        client.messages.create(**request())


def test_every_byte_can_be_the_last():
    whole = len(b"".join(Emulator([LONG]).answer("POST", "/v1/messages", HEADERS, STREAMED).chunks))
    for size in range(0, whole, 37):
        answer = Emulator([replies.cut(LONG, after_bytes=size)]).answer("POST", "/v1/messages", HEADERS, STREAMED)
        assert len(b"".join(answer.chunks)) == size


# ── the server ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_connection_is_kept_alive():
    emulator = Emulator([replies.text("a")] * 3)
    with serve(emulator) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        ports = set()
        for stream in (False, True, False):
            connection.request("POST", "/v1/messages", json.dumps(request(stream=stream)), HEADERS)
            ports.add(connection.sock.getsockname()[1])
            assert connection.getresponse().read()
        connection.close()
    assert len(ports) == 1
    emulator.done()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.168.0.1", "example.com", "::"])  # noqa: S104  # what is refused
def test_only_loopback_is_bound(host):
    with pytest.raises(ValueError, match="loopback only"):
        serve(Emulator([]), host=host)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:{port}", None, 200),
        ("localhost:{port}", None, 200),
        ("LOCALHOST:{port}", None, 200),
        ("[::1]:{port}", None, 200),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", 200),
        ("localhost:{port}", "http://localhost:{port}", 200),
        ("127.0.0.1", None, 421),
        ("127.0.0.1:1", None, 421),
        ("localhost", None, 421),
        ("evil.example", None, 421),
        ("evil.example:{port}", None, 421),
        ("127.0.0.1:{port}.evil.example", None, 421),
        ("localhost.:{port}", None, 421),
        ("127.0.0.1.nip.io:{port}", None, 421),
        ("0.0.0.0:{port}", None, 421),
        ("[::]:{port}", None, 421),
        ("2130706433:{port}", None, 421),
        ("", None, 421),
        (None, None, 421),
        ("evil.example:{port}", "http://evil.example:{port}", 421),
        ("127.0.0.1:{port}", "http://evil.example", 403),
        ("127.0.0.1:{port}", "null", 403),
        ("127.0.0.1:{port}", "", 403),
        ("127.0.0.1:{port}", "https://127.0.0.1:{port}", 403),
        ("127.0.0.1:{port}", "http://localhost:{port}", 403),
        ("127.0.0.1:{port}", "http://127.0.0.1:1", 403),
    ],
)
def test_host_and_origin(host, origin, status):
    emulator = Emulator([replies.text("a")])
    with serve(emulator) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.putrequest("POST", "/v1/messages", skip_host=True)
        body = json.dumps(request()).encode()
        given = {"host": host, "origin": origin, "content-length": str(len(body))} | HEADERS
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value.format(port=server.port))
        connection.endheaders(body)
        response = connection.getresponse()
        response.read()
        connection.close()
    assert response.status == status
    assert len(emulator.requests) == (status == 200)
    assert response.getheader("access-control-allow-origin") is None


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Host: 127.0.0.1:{port}\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n", 421),
        ("Host: 127.0.0.1:{port}\r\nContent-Length: -1\r\n", 400),
        ("Host: 127.0.0.1:{port}\r\nContent-Length: x\r\n", 400),
        ("Host: 127.0.0.1:{port}\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
        ("Host: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n", 411),
        ("Host: 127.0.0.1:{port}\r\nContent-Length: 999999999999\r\n", 413),
    ],
)
def test_hostile_framing(lines, status):
    with serve(Emulator([])) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"POST /v1/messages HTTP/1.1\r\n{lines}\r\n".format(port=server.port).encode())
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert b'"type":"error"' in received


@pytest.mark.parametrize(
    ("digits", "status"), [("9" * 5000, 413), ("9" * 20, 413), ("0" * 5000, 400)], ids=["5000 digits", "20", "zeros"]
)
def test_an_endless_length_is_answered_at_once(digits, status, capfd, caplog):
    head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{{port}}\r\nContent-Length: {digits}\r\n"
    head += "x-api-key: k\r\nanthropic-version: 2026-10-21\r\nContent-Type: application/json\r\n\r\n"
    with serve(Emulator([])) as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.format(port=server.port).encode())  # nothing more is sent, and it stays open
        received = connection.recv(65536)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("complete garbage", 400),
        ("\x16\x03\x01", 400),
        ("GET", 400),
        ("PUT /v1/messages HTTP/1.1", 405),
        ("OPTIONS /v1/messages HTTP/1.1", 405),
        ("DELETE /v1/nothing HTTP/1.1", 404),
        ("BREW /v1/messages HTTP/1.1", 405),
        ("GET /v1/messages HTTP/9.9", 505),
        ("GET /" + "a" * 70_000 + " HTTP/1.1", 414),
    ],
    ids=lambda value: str(value)[:30],
)
def test_whatever_is_asked_the_answer_is_the_envelope_of_an_error(line, status):
    with serve(Emulator([])) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{line}\r\nHost: 127.0.0.1:{server.port}\r\nx-api-key: k\r\n\r\n".encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # what was sent too much
            while piece := connection.recv(65536):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), received[:200]
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body)["type"] == "error"


def test_head_gets_no_body():
    with serve(Emulator([])) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("HEAD", "/v1/messages", headers=HEADERS)
        response = connection.getresponse()
        assert (response.status, response.read()) == (405, b"")
        connection.close()


def test_a_body_that_is_too_large_is_refused_with_413():
    emulator = Emulator([])
    with (
        serve(emulator) as server,
        anthropic.Anthropic(api_key=KEY, base_url=server.url, max_retries=0) as client,
        pytest.raises(anthropic.ContentTooLargeError) as caught,
    ):
        client.messages.create(**request("x" * (32 * 1024 * 1024)))
    assert caught.value.body["error"]["type"] == "request_too_large"
    assert emulator.requests == ()


def test_the_other_loopback_address():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    emulator = Emulator([replies.text("a")])
    with (
        serve(emulator, "::1") as server,
        anthropic.Anthropic(api_key=KEY, base_url=server.url, max_retries=0) as client,
    ):
        assert server.url == f"http://[::1]:{server.port}"
        client.messages.create(**request())
    emulator.done()


def test_close_leaves_no_thread_and_no_socket():
    before = set(threading.enumerate())
    server = serve(Emulator([replies.text("a")] * 2))
    idle = socket.create_connection(("127.0.0.1", server.port))
    kept = http.client.HTTPConnection("127.0.0.1", server.port)
    kept.request("POST", "/v1/messages", json.dumps(request()), HEADERS)
    kept.getresponse().read()
    assert server.wait(0.01) is False
    begun = time.monotonic()
    server.close()
    server.close()
    assert time.monotonic() - begun < 5
    assert server.wait() is True
    assert set(threading.enumerate()) == before
    assert idle.recv(1) == b""
    idle.close()
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=2).close()
    serve(Emulator([]), port=server.port).close()


def test_close_does_not_wait_for_the_latency():
    server = serve(Emulator([replies.text("a")], latency=60))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/messages", json.dumps(request()), HEADERS)
    time.sleep(0.1)
    begun = time.monotonic()
    server.close()
    assert time.monotonic() - begun < 5
    connection.close()


def test_a_client_that_goes_away_is_no_noise(capfd):
    with serve(Emulator([replies.text("x" * 3_000_000)], latency=0.05)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/messages", json.dumps(request(stream=True)), HEADERS)
        connection.close()
        time.sleep(0.3)
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_our_own_is_logged(caplog):
    with serve(Emulator([replies.text("a")], latency=lambda: 1 / 0)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/messages", json.dumps(request()), HEADERS)
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()
    assert "ZeroDivisionError" in caplog.text
