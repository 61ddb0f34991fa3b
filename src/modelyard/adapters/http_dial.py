"""Connections to an HTTP server: straight or through the environment's proxy, in TLS where its URL says so.

The environment is that of most tools: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY; SSL_CERT_FILE or SSL_CERT_DIR in
place of the public authorities. Not covered: proxies that are themselves spoken to in TLS, or by SOCKS.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import httptools

_CONNECT = 10.0
"""Seconds for a connection, where the caller has more."""
_TICK = 0.01
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_HEAD = 256 * 1024
_KEPT = "%/:?#[]@!$&'()*+,;=~"

Left = Callable[[], float]
"""How many seconds the caller has left."""


class Failed(Exception):
    """The connection or the exchange broke: another attempt may do better. `str` is a clause without an address."""


class Late(Exception):
    """The caller's time is over."""


class Wrong(Exception):
    """What is configured cannot be used: no attempt will do better. `str` is a clause without an address or secret."""


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of its header, or empty."""

    host: str
    port: int
    authorization: str = field(repr=False)


@dataclass(frozen=True)
class Address:
    """Where a URL leads. `target` is what stands in the request line, `authorization` what the URL itself holds."""

    host: str
    port: int
    tls: bool
    named: str
    """Host and port as the Host header has them."""
    target: str = field(repr=False)
    authorization: str = field(repr=False)
    proxy: Proxy | None

    def dial(self, left: Left) -> socket.socket:
        """An open connection. Raises Failed where there is none within ten seconds, Late where the caller had less,
        Wrong for authorities or a proxy that cannot be used."""
        limit = _CONNECT
        until = left() - limit

        def rest() -> float:
            return left() - max(until, 0.0)

        try:
            opened = self._dial(rest)
        except (TimeoutError, Late):
            if left() < _TICK:
                raise Late from None
            raise Failed("no connection in time") from None
        except ssl.SSLCertVerificationError:
            raise Failed("its certificate is not one that is trusted here") from None
        except OSError as error:
            raise Failed(f"the connection failed ({type(error).__name__})") from None
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def _dial(self, left: Left) -> socket.socket:
        plain = _open(*((self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)), left)
        try:
            if not self.tls:
                return plain
            if self.proxy:
                _tunnel(plain, self, self.proxy, left)
            plain.settimeout(seconds(left))
            context = _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            return context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def address(url: str) -> Address:
    """Where `url` leads, by the environment as it is now. Raises Wrong."""
    try:
        parts = urlsplit(_sendable(url))
        host, port = parts.hostname or "", parts.port
        host = host if host.isascii() else host.encode("idna").decode()
    except (ValueError, UnicodeError):
        raise Wrong("the configured URL is not one") from None
    if parts.scheme not in ("http", "https") or not host or " " in host:
        raise Wrong("the configured URL is not one")
    tls = parts.scheme == "https"
    usual = 443 if tls else 80
    named = f"[{host}]" if ":" in host else host
    named = named if port in (None, usual) else f"{named}:{port}"
    proxy = _proxy(parts.scheme, named)
    target = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT)}" if parts.query else "")
    if proxy and not tls:
        target = f"http://{named}{target}"
    return Address(host, port or usual, tls, named, target, _basic(parts), proxy)


def seconds(left: Left) -> float:
    """What is left, for a socket. Raises Late where it is nothing."""
    rest = left()
    if rest <= 0:
        raise Late
    return rest


def _open(host: str, port: int, left: Left) -> socket.socket:
    """A connection to the first address of `host` that takes one, all of them within the time."""
    failed: OSError | None = None
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(seconds(left))
            opened.connect(where)
            return opened
        except OSError as error:
            opened.close()
            failed = error
        except BaseException:
            opened.close()
            raise
    raise failed or OSError("no address")


class _Answer:
    """What a proxy says to CONNECT."""

    ended = False

    def on_headers_complete(self) -> None:
        self.ended = True


def _tunnel(plain: socket.socket, to: Address, proxy: Proxy, left: Left) -> None:
    named = f"[{to.host}]:{to.port}" if ":" in to.host else f"{to.host}:{to.port}"
    head = f"CONNECT {named} HTTP/1.1\r\nHost: {named}\r\n"
    if proxy.authorization:
        head += f"Proxy-Authorization: {proxy.authorization}\r\n"
    plain.settimeout(seconds(left))
    plain.sendall(f"{head}\r\n".encode())
    answer, size = _Answer(), 0
    parser = httptools.HttpResponseParser(answer)
    while not answer.ended:
        plain.settimeout(seconds(left))
        # The server speaks only when spoken to, so nothing of TLS can be read here.
        data = plain.recv(4096)
        size += len(data)
        if not data or size > _LONGEST_HEAD:
            raise Failed("the proxy gives no connection")
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            break
        except httptools.HttpParserError:
            raise Failed("the proxy does not speak HTTP") from None
    if parser.get_status_code() != 200:
        raise Failed(f"the proxy answers HTTP {parser.get_status_code()}")


def _proxy(scheme: str, named: str) -> Proxy | None:
    proxies = getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass(named):
        return None
    try:
        parts = urlsplit(_sendable(url if "://" in url else f"http://{url}"))
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Wrong("the environment's proxy is not a URL") from None
    if parts.scheme != "http" or not host:
        raise Wrong("the environment's proxy must be named by http://, other kinds are not spoken")
    return Proxy(host, port or 80, _basic(parts))


def _sendable(url: str) -> str:
    if _UNSENDABLE.search(url):
        raise ValueError
    return url


def _basic(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(both.encode()).decode()


@lru_cache(maxsize=4)
def _context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """What a server must show to be believed."""
    try:
        if file or folder:
            context = ssl.create_default_context(cafile=file or None, capath=None if file else folder)
        else:
            context = ssl.create_default_context(cafile=certifi.where())
    except OSError:
        raise Wrong("the authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
