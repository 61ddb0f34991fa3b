"""Posts over kept connections, to servers that say byte for byte what the test says."""

from __future__ import annotations

import base64
import datetime
import gzip
import ipaddress
import itertools
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.adapters.http_post import IDLE, LONGEST, Failed, Late, Post, Wrong
from modelyard.clock import FakeClock

KEY = "sk-very-secret"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[socket.socket, bytes], bool | None]
"""Answers one request on a connection. True: the connection stays open for the next."""


class Server:
    """Answers each request by the next script, the last one for ever; `requests` are what came, by connection."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts, self.tls = scripts, tls
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.left = threading.Event()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1/do"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                opened, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(opened, self.connections), daemon=True).start()

    def _serve(self, opened: socket.socket, number: int) -> None:
        try:
            if self.tls:
                opened = self.tls.wrap_socket(opened, server_side=True)
            with opened:
                while sent := request(opened):
                    with self._lock:
                        self.requests.append((number, sent))
                        script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
                    if not script(opened, sent):
                        return
        except OSError:
            pass
        finally:
            self.left.set()

    def close(self) -> None:
        self._socket.close()


def request(opened: socket.socket) -> bytes:
    """One request, head and body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        some = opened.recv(65536)
        if not some:
            return b""
        data += some
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        body += opened.recv(65536)
    return head + b"\r\n\r\n" + body


def says(data: bytes, stay: bool = True) -> Script:
    def script(opened: socket.socket, sent: bytes) -> bool:
        opened.sendall(data)
        return stay

    return script


def echo(opened: socket.socket, sent: bytes) -> bool:
    body = sent.partition(b"\r\n\r\n")[2]
    opened.sendall(OK % (len(body), body))
    return True


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*scripts: Script, **options: ssl.SSLContext) -> Server:
        servers.append(Server(*scripts, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def within(seconds: float) -> Callable[[], float]:
    until = time.monotonic() + seconds
    return lambda: until - time.monotonic()


def ask(post: Post, body: bytes = b"{}", timeout: float = 5.0) -> tuple[int, bytes]:
    with post.send(body, within(timeout)) as reply:
        return reply.status, reply.read()


# What is sent and read


def test_what_goes_over_the_wire(serve: Callable[..., Server]) -> None:
    server = serve(echo)
    url = server.url.replace("http://", "http://me:p%40ss@").replace("/do", "/d\u00f6?api-version=1&x=a%20b c")
    assert ask(Post(url, {"x-own": "1", "accept": "text/event-stream"}), b'{"a":1}') == (200, b'{"a":1}')
    first, *lines = server.requests[0][1].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert first == "POST /v1/d%C3%B6?api-version=1&x=a%20b%20c HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "modelyard",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "7",
        "x-own": "1",
        "authorization": "Basic " + base64.b64encode(b"me:p@ss").decode(),
    }


PACKED = gzip.compress(b"one\ntwo\r\n\r\nthree")
BODIES = [
    OK % (16, b"one\ntwo\r\n\r\nthree"),
    CHUNKED + b"5\r\none\nt\r\n6;x=y\r\nwo\r\n\r\n\r\n5\r\nthree\r\n0\r\nX-Late: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\none\rtwo\n\nthree",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK % (13, b"one\ntwo\nthree"),
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(PACKED), PACKED),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.sampled_from(BODIES), cuts=st.lists(st.integers(1, 150), max_size=4))
def test_a_reply_reads_alike_however_it_is_framed_and_cut(
    serve: Callable[..., Server], data: bytes, cuts: list[int]
) -> None:
    at = [0, *sorted({c for c in cuts if c < len(data)}), len(data)]

    def script(opened: socket.socket, sent: bytes) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for a, b in itertools.pairwise(at):
            opened.sendall(data[a:b])
            time.sleep(0.001)

    with Post(serve(script).url, {}).send(b"{}", within(5)) as reply:
        assert reply.status == 200 and b"link" not in reply.headers and b"x-late" not in reply.headers
        assert [line for line in reply.lines() if line] == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "closed without a reply"),
        (b"HTTP/1.1 200", "broke off"),
        (OK % (9, b"too few"), "broke off"),
        (CHUNKED + b"9\r\ntoo few", "broke off"),
        (CHUNKED + b"zz\r\n", "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 20_000, "no end"),
    ],
)
def test_a_reply_that_is_none_fails(serve: Callable[..., Server], data: bytes, reason: str) -> None:
    server = serve(says(data, stay=False))
    with pytest.raises(Failed, match=reason):
        ask(Post(server.url, {}))
    assert len(server.requests) == 1


def test_an_endless_line_or_reply_is_given_up(serve: Callable[..., Server]) -> None:
    def endless(opened: socket.socket, sent: bytes) -> None:
        opened.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(LONGEST // 2**20 + 40):
            opened.sendall(b"x" * 2**20)

    post = Post(serve(endless).url, {})
    with pytest.raises(Wrong, match="more than 32 MB"):
        ask(post)
    with post.send(b"{}", within(5)) as reply, pytest.raises(Wrong, match="line of more than 32 MB"):
        list(reply.lines())


def test_a_refusal_before_the_body_is_read_is_heard(serve: Callable[..., Server]) -> None:
    def refuse(listener: socket.socket) -> None:
        opened, _ = listener.accept()
        opened.recv(100)
        opened.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        opened.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        opened.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse, args=(listener,), daemon=True).start()
        assert ask(Post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}), b"x" * 20_000_000) == (413, b"no")


# Time


def test_the_time_is_that_of_the_whole_reply(serve: Callable[..., Server]) -> None:
    def drips(opened: socket.socket, sent: bytes) -> None:
        opened.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            opened.sendall(b": still there\n")
            time.sleep(0.02)

    server = serve(drips)
    with pytest.raises(Late), Post(server.url, {}).send(b"{}", within(0.3)) as reply:
        list(reply.lines())
    assert server.left.wait(5)


def test_a_head_that_does_not_come_is_late(serve: Callable[..., Server]) -> None:
    hold = threading.Event()
    with pytest.raises(Late):
        ask(Post(serve(lambda *_: hold.wait(5)).url, {}), timeout=0.2)
    hold.set()
    with pytest.raises(Late):
        ask(Post("http://127.0.0.1:9/", {}), timeout=0.0)


# Connections


def test_a_connection_is_used_again_though_the_end_of_the_reply_comes_late(serve: Callable[..., Server]) -> None:
    gone, ended = threading.Event(), threading.Event()

    def streams(opened: socket.socket, sent: bytes) -> bool:
        opened.sendall(CHUNKED + b"5\r\ndone\n\r\n")
        gone.wait(5)
        opened.sendall(b"1\r\n\n\r\n0\r\n\r\n")
        ended.set()
        return True

    server = serve(streams)
    post = Post(server.url, {})
    for _ in range(3):
        gone.clear()
        ended.clear()
        with post.send(b"{}", within(5)) as reply:
            assert next(reply.lines()) == b"done"
            reply.enough()
        gone.set()
        assert ended.wait(5)
        time.sleep(0.05)
    assert [number for number, _ in server.requests] == [1, 1, 1]


def test_a_connection_whose_reply_goes_on_is_not_used_again(serve: Callable[..., Server]) -> None:
    server = serve(says(CHUNKED + b"5\r\ndone\n\r\n"), says(OK % (2, b"ok") + OK % (5, b"other")), echo)
    post = Post(server.url, {})
    with post.send(b"{}", within(5)) as reply:
        assert next(reply.lines()) == b"done"
        reply.enough()
    assert ask(post) == (200, b"ok")  # and something nobody asked for behind it
    assert ask(post, b"mine") == (200, b"mine")
    assert [number for number, _ in server.requests] == [1, 2, 3]


def test_a_reply_that_has_no_end_holds_nobody_up(serve: Callable[..., Server]) -> None:
    def on(opened: socket.socket, sent: bytes) -> None:
        opened.sendall(CHUNKED + b"5\r\ndone\n\r\n")
        while True:
            opened.sendall(b"1\r\n\n\r\n")
            time.sleep(0.001)

    post = Post(serve(on, echo).url, {})
    with post.send(b"{}", within(5)) as reply:
        assert next(reply.lines()) == b"done"
        reply.enough()
    assert ask(post) == (200, b"{}")


def test_leaving_a_reply_ends_its_connection(serve: Callable[..., Server]) -> None:
    server = serve(says(CHUNKED + b"5\r\ndone\n\r\n"))
    with Post(server.url, {}).send(b"{}", within(5)) as reply:
        next(reply.lines())
    assert server.left.wait(5)


def test_a_connection_that_the_server_closed_costs_no_call(serve: Callable[..., Server]) -> None:
    server = serve(says(OK % (2, b"ok"), stay=False))
    post = Post(server.url, {})
    for _ in range(3):
        assert ask(post) == (200, b"ok")
        server.left.wait(5)
    assert [number for number, _ in server.requests] == [1, 2, 3]


def test_a_kept_connection_that_ends_without_a_byte_is_replaced_once(serve: Callable[..., Server]) -> None:
    # The request and the server's closing pass each other on the way.
    server = serve(echo, says(b"", stay=False), echo, says(b"", stay=False), says(b"", stay=False))
    post = Post(server.url, {})
    assert ask(post) == (200, b"{}")
    assert ask(post, b"again") == (200, b"again")
    assert [number for number, _ in server.requests] == [1, 1, 2]
    with pytest.raises(Failed, match="without a reply"):
        ask(post)
    assert [number for number, _ in server.requests] == [1, 1, 2, 2, 3]


def test_connections_that_are_needed_no_more_are_closed(serve: Callable[..., Server]) -> None:
    server, clock = serve(echo), FakeClock()
    post = Post(server.url, {}, clock)
    with post.send(b"one", within(5)) as one, post.send(b"two", within(5)) as two:
        assert (one.read(), two.read()) == (b"one", b"two")
    clock.advance(IDLE / 2)
    assert ask(post) == (200, b"{}") and server.connections == 2 and not server.left.is_set()
    clock.advance(IDLE / 2)
    assert ask(post) == (200, b"{}") and server.connections == 2
    assert server.left.wait(5)  # the other one
    clock.advance(IDLE)
    assert ask(post) == (200, b"{}") and server.connections == 3


@pytest.mark.parametrize("begun", [b"HTTP/1", OK[:17], CHUNKED, CHUNKED + b"5\r\ndone\n\r\n"])
def test_a_reply_that_was_begun_is_never_asked_for_again(serve: Callable[..., Server], begun: bytes) -> None:
    server = serve(echo, says(begun, stay=False), echo)
    post = Post(server.url, {})
    ask(post)
    with pytest.raises(Failed):
        ask(post)
    assert len(server.requests) == 2


def test_threads_share_connections_and_get_their_own_replies(serve: Callable[..., Server]) -> None:
    server = serve(echo)
    post = Post(server.url, {})
    with ThreadPoolExecutor(6) as pool:
        bodies = [b"%d" % i * 50 for i in range(300)]
        assert list(pool.map(lambda body: ask(post, body)[1], bodies)) == bodies
    assert server.connections <= 6
    post.close()
    assert server.left.wait(5)


def test_a_forked_process_makes_connections_of_its_own(serve: Callable[..., Server]) -> None:
    server = serve(echo)
    code = """
import os, sys
from modelyard.adapters.http_post import Post
post = Post(sys.argv[1], {})
def ask(body):
    with post.send(body, lambda: 5.0) as reply:
        assert reply.read() == body
ask(b"before")
child = os.fork()
for _ in range(20):
    ask(b"child" if child == 0 else b"parent")
if child == 0:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code, server.url], check=True, timeout=30)
    by = {number: {body.partition(b"\r\n\r\n")[2] for n, body in server.requests if n == number} for number in (1, 2)}
    assert by == {1: {b"before", b"parent"}, 2: {b"child"}}
    assert server.connections == 2 and len(server.requests) == 41


# Proxies and certificates


def relays(opened: socket.socket, sent: bytes) -> None:
    """CONNECT: a tunnel to where it names."""
    host, _, port = sent.split(b" ")[1].decode().rpartition(":")
    with socket.create_connection((host, int(port))) as there:
        opened.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def back() -> None:
            while data := there.recv(65536):
                opened.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        while data := opened.recv(65536):
            there.sendall(data)


def test_a_proxy_of_the_environment_is_asked(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(echo), serve(echo)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:pass@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
    assert ask(Post("http://models.example/v1/do?x=1", {})) == (200, b"{}")
    sent = proxy.requests[0][1]
    assert sent.startswith(b"POST http://models.example/v1/do?x=1 HTTP/1.1\r\nHost: models.example\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:pass") in sent
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert ask(Post(server.url, {})) == (200, b"{}")
    assert len(proxy.requests) == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that vouches for itself, and a server's use of it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.KeyUsage(*[at in (0, 5) for at in range(9)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    own = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder = tmp_path_factory.mktemp("tls")
    (folder / "both.pem").write_bytes(own + made.public_bytes(pem))
    (folder / "authority.pem").write_bytes(made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return folder / "authority.pem", context


@pytest.mark.parametrize("proxied", [False, True])
def test_tls_by_an_authority_of_ones_own(
    serve: Callable[..., Server],
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    proxied: bool,
) -> None:
    server, proxy = serve(echo, tls=authority[1]), serve(relays)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    if proxied:
        monkeypatch.setenv("https_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
    post = Post(server.url, {"Authorization": KEY})
    for body in (b"one", b"two" * 100_000, b"three"):
        assert ask(post, body) == (200, body)
    assert [number for number, _ in server.requests] == [1, 1, 1]
    assert len(proxy.requests) == proxied
    if proxied:  # it learns where, and nothing of what
        connect = proxy.requests[0][1]
        assert connect.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)
        assert b"Proxy-Authorization: Basic " in connect and KEY.encode() not in connect


def test_a_server_that_nobody_vouches_for_gets_nothing(
    serve: Callable[..., Server],
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = serve(echo, tls=authority[1])
    with pytest.raises(Failed, match="not one that is trusted"):
        ask(Post(server.url, {}))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    with pytest.raises(Failed, match="not one that is trusted"):
        ask(Post(server.url.replace("127.0.0.1", "localhost"), {}))  # vouched for under another name
    assert not server.requests
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(Wrong, match="SSL_CERT_FILE"):
        ask(Post(server.url, {}))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            says(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
            "the proxy answers HTTP 407",
        ),
        (says(b"", stay=False), "the proxy gives no connection"),
        (says(b"220 mail.example ESMTP\r\n", stay=False), "does not speak HTTP"),
    ],
)
def test_a_proxy_that_refuses_is_named_as_such(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, script: Script, reason: str
) -> None:
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{serve(script).port}")
    with pytest.raises(Failed, match=reason):
        ask(Post("https://models.example/v1", {}))


# What is configured


@pytest.mark.parametrize(
    ("url", "headers", "environment"),
    [
        ("models.example/v1", {}, {}),
        ("ftp://models.example/v1", {}, {}),
        ("http://", {}, {}),
        ("http://models.example:http/v1", {}, {}),
        ("http://[::1/v1", {}, {}),
        ("http://a b/v1", {}, {}),
        ("http://127.0.0.1:9/v1", {"x-key": KEY + "\r\nx-more: 1"}, {}),
        ("http://127.0.0.1:9/v1", {"x key": KEY}, {}),
        ("http://127.0.0.1:9/v1", {"x-key": KEY + "\udcff"}, {}),
        ("http://127.0.0.1:9/v1\udcff", {}, {}),
        ("http://127.0.0.1:9/v1\n", {}, {}),
        ("http://127.0.0.1:9/v1", {}, {"http_proxy": f"http://me:{KEY}\udcff@127.0.0.1:1"}),
        ("http://127.0.0.1:9/v1", {"Content-Length": "1"}, {}),
        ("http://127.0.0.1:9/v1", {}, {"all_proxy": f"socks5://me:{KEY}@127.0.0.1:1"}),
        ("http://127.0.0.1:9/v1", {}, {"http_proxy": f"https://me:{KEY}@127.0.0.1:1"}),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch, url: str, headers: dict[str, str], environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Wrong) as caught:
        ask(Post(url, headers))
    said = str(caught.value)
    assert said and "\n" not in said and KEY not in said and "127.0.0.1" not in said


def test_nobody_there_fails_without_naming_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Failed) as caught:
        ask(Post(f"http://127.0.0.1:{port}/", {"Authorization": KEY}))
    assert str(caught.value) == "the connection failed (ConnectionRefusedError)"
    with pytest.raises(Failed, match="gaierror"):
        ask(Post("http://nobody.invalid/", {}))


def test_importing_it_imports_no_other_client() -> None:
    unwanted = ["httpx", "urllib3", "requests", "aiohttp"]
    code = f"import sys, modelyard.adapters.chat_openai; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
