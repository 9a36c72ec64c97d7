"""One rule of the way to a server, for everything that talks to one, the measured load included:
which proxy is asked, which certificates are trusted, and the login that a base URL has in it.

Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in small letters, too; never for this
machine itself. Certificates: SSL_CERT_FILE, else REQUESTS_CA_BUNDLE, else CURL_CA_BUNDLE, else the
system's. ~/.netrc is not read.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from urllib import request
from urllib.parse import unquote, urlsplit, urlunsplit

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.ports import joined

CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LOGIN_VARIABLE = "AOT_LOGIN"
"""Hands the login of its server to the load generator, which is a process of its own."""
_LOGINS: dict[str, str] = {}
"""What stood before the @ of a base URL, by the server: held here, so that it is sent to that
server and can be written nowhere."""


def is_loopback(url: str) -> bool:
    """Whether `url` is on this machine itself, where a proxy must not be asked."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host in LOOPBACK
    return address.is_loopback or address.is_unspecified


def base_url(url: str, named_by: str) -> str:
    """`url` without /v1 and without its user and password, which are kept for `login`.

    Raises UsageError, which starts with `named_by`, for what is no http(s) URL of a server.
    """
    text = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        why = "it is no URL" if "@" in url else str(error)  # which may show a part of a password
        raise UsageError(f"{named_by}: {without_login(url)!r}: {why}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{named_by}: '{without_login(url)}' must start with http:// or https:// and name a "
            "host, e.g. http://127.0.0.1:8000"
        )
    if parts.query or parts.fragment or port == 0 or re.search(r"[\s\x00-\x1f]", text):
        raise UsageError(
            f"{named_by}: '{without_login(url)}' must be a base URL, e.g. http://127.0.0.1:8000"
        )
    before, at, host = parts.netloc.rpartition("@")
    if at:
        remember(f"{parts.scheme}://{host}", _basic(before))
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def remember(url: str, authorization: str) -> None:
    """Have this header sent to the server of `url`."""
    parts = urlsplit(url)
    _LOGINS[f"{parts.scheme}://{parts.netloc}"] = authorization


def _basic(user_and_password: str) -> str:
    """The value of a header for what stands before the @ of a URL (RFC 7617)."""
    user, _, password = user_and_password.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def login(url: str) -> str | None:
    """The value of the header Authorization for a server whose base URL had a login in it."""
    parts = urlsplit(url)
    return _LOGINS.get(f"{parts.scheme}://{parts.netloc}")


def without_login(text: str) -> str:
    """One word with what stands before the last @ left out, where it may be a URL."""
    if "@" not in text or not re.search(r":/|:[^/]*@", text):
        return text
    scheme = re.match(r"(?:[^/]*=)?[a-z][a-z0-9+.-]*://", text)
    return (scheme[0] if scheme else "") + text.rpartition("@")[2]


HIDDEN = (("--header", ":", ": …"), ("--body", "=", "=…"), ("--path", "?", "?…"))
"""Options whose values are hidden from a sign on, and what stands there instead."""


def shown_command(words: Sequence[str]) -> str:
    """A command line as it may be written down: without logins, without the values of headers and
    fields, which are often keys, and without what stands behind a path."""
    shown: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        for option, sign, rest in HIDDEN:
            if before == option or word.startswith(f"{option}="):
                begin = len(option) + 1 if word.startswith(f"{option}=") else 0
                kept, found, _ = word[begin:].partition(sign)
                word = f"'{word[:begin]}{kept}{rest if found else ''}'"
        shown.append(without_login(word))
    return " ".join(["aot", *shown])


def authorization(url: str, key: str | None, named_by: str) -> dict[str, str]:
    """The header that says who asks. UsageError where both a key and a login would be in it."""
    known = login(url)
    if known and key:
        raise UsageError(
            f"{named_by}: the URL has a user and a password in it, and one header cannot carry "
            "both; leave one of them out"
        )
    value = known or (f"Bearer {key}" if key else None)
    return {"Authorization": value} if value else {}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy: where it listens, and the login for it (header Proxy-Authorization)."""

    host: str
    port: int
    login: str | None = field(repr=False)
    with_login: str = field(repr=False)
    """Its URL, for libraries that take the login from there; never shown."""

    @property
    def url(self) -> str:
        """Without its login."""
        return f"http://{joined(self.host, self.port)}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.login} if self.login else {}


def proxy(url: str) -> Proxy | None:
    """The proxy on the way to `url`; None where there is none. UsageError for one of another kind
    than http://, which not everything here could use."""
    parts = urlsplit(url)
    known = request.getproxies_environment()
    found = known.get(parts.scheme) or known.get("all")
    if not found or is_loopback(url):
        return None
    if request.proxy_bypass_environment(parts.netloc, known):  # type: ignore[attr-defined]
        return None
    try:
        where = urlsplit(found if "://" in found else f"http://{found}")
        port = where.port or 80
    except ValueError:
        raise UsageError(
            f"the proxy '{without_login(found)}' of the environment is no URL of a proxy; name it "
            "as http://HOST:PORT"
        ) from None
    if where.scheme != "http" or not where.hostname:
        raise UsageError(
            f"the proxy '{without_login(found)}' of the environment is not of the kind http://; "
            f"name another one, or let {parts.hostname} be reached without: "
            f"export NO_PROXY={parts.hostname}"
        )
    before = where.netloc.rpartition("@")[0]
    return Proxy(where.hostname, port, _basic(before) if before else None, where.geturl())


def certificates() -> str | None:
    """The file, or folder, of the certificates that are trusted; None: what Python's own ssl finds.

    Raises UsageError for a variable that names no file.
    """
    for variable in CERTIFICATE_VARIABLES:
        if named := os.environ.get(variable):
            if not Path(named).exists():
                raise UsageError(
                    f"{variable}: {named} does not exist; name a file of certificates (PEM), or "
                    f"unset {variable}"
                )
            return named
    found = ssl.get_default_verify_paths()
    return found.cafile or found.capath


def trusting() -> ssl.SSLContext:
    """The settings of TLS, with these certificates. UsageError for a file that holds none."""
    return _trusting(certificates())


@cache
def _trusting(where: str | None) -> ssl.SSLContext:
    is_folder = where is not None and Path(where).is_dir()
    try:
        return ssl.create_default_context(
            cafile=None if is_folder else where, capath=where if is_folder else None
        )
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"{where} is no file of certificates (PEM): {error}") from None


def untrusted(error: BaseException) -> str | None:
    """What is said of a certificate that is not trusted, whichever library found out; None for
    another error."""
    seen: BaseException | None = error
    while seen is not None:
        reason = re.search(r"certificate verify failed: ([^(\]]*)", str(seen))
        if reason:
            return (
                f"its certificate is not trusted ({reason[1].strip()}); trusted are those of "
                f"{certificates() or 'the system'}: name a file with your authority's in "
                "SSL_CERT_FILE"
            )
        seen = seen.__cause__ or seen.__context__
    return None
