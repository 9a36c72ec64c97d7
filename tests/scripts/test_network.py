"""One way to a server, for all that talks to it: its login, the proxy, the certificates."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from support import stub
from support.command import Aot, check
from support.compiled import prompt
from support.middle import NAME, proxied, tls

from aot.configs.kernel import network
from aot.configs.kernel.errors import UsageError

PASSWORD = "p@ss/w:rd"
LOGIN = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in network.CERTIFICATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    path = tmp_path / "compiled.json"
    path.write_text(prompt("p", list(range(9))).to_text())
    return path


def _with_login(url: str) -> str:
    return url.replace("http://", "http://me:p%40ss%2Fw%3Ard@")


def _commands(url: str, compiled: Path) -> list[list[object]]:
    return [
        ["load", "small.yaml", "--url", url, "-o", "run", "--arm", "auto"],
        ["warm", "small.yaml", "--url", url],
        ["audit", "isolation", url, "--tokens", "96", "--trials", "2"],
        ["ask", compiled, "Why?", "--model", stub.MODEL, "--url", url],
    ]


def test_a_login_in_the_url_is_sent_with_everything_and_written_nowhere(
    aot: Aot, workload: Path, tmp_path: Path, compiled: Path
) -> None:
    with stub.serving(gap_s=0.001, authorization=LOGIN) as server:
        said = ""
        for command in _commands(_with_login(server.base_url), compiled):
            before = len(server.received)
            done = aot(*command)
            said += done.stdout + done.stderr
            assert len(server.received) > before, done.stderr
        assert set(server.authorizations) == {LOGIN}
        (tmp_path / "remote.yaml").write_text(
            f"engine: openai\nruntime: remote\nurl: {_with_login(server.base_url)}\n"
        )
        (tmp_path / "e.yaml").write_text(
            "name: mine\nserver: remote.yaml\nworkload: small.yaml\narms: [auto]\n"
        )
        done = aot("run", "e.yaml")
        said += done.stdout + done.stderr
        assert set(server.authorizations) == {LOGIN}
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "remote.yaml"]
    assert (tmp_path / "run" / "report.html").exists()
    secrets = ("p@ss", "p%40ss", LOGIN.split()[1])
    assert [s for s in secrets if s in said] == []
    assert [p for p in written if any(s.encode() in p.read_bytes() for s in secrets)] == []


def test_a_login_and_a_key_cannot_both_be_sent(
    aot: Aot, workload: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", "k")
    url = "http://me:secret@127.0.0.1:9"
    done = aot("load", workload, "--url", url, "--api-key-env", "MY_KEY", "-o", "run")
    assert "secret" not in check(done, 2, "one header cannot carry both")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://u:secret@h", "must start with http:// or https://"),
        ("http://u:secret@", "name a host"),
        ("http://h:99999", "out of range"),
        ("http://h/?a=b", "must be a base URL"),
        ("127.0.0.1:8000", "must start with http"),
        ("http://[::1", "Invalid IPv6"),
        ("http://u:PW/secret@h:80", "it is no URL"),
        ("http://u:secret word@h", "must be a base URL"),
        ("u:secret@h", "must start with http"),
        ("http:/u:secret@h", "must start with http"),
        ("http://u:PW#secret@h", "--url"),
    ],
)
def test_what_is_no_base_url(aot: Aot, workload: Path, url: str, words: str) -> None:
    text = check(aot("load", workload, "--url", url), 2, "--url", words)
    assert "secret" not in text
    assert "PW" not in text


def test_everything_goes_through_the_proxy(
    aot: Aot, workload: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stub.serving(gap_s=0.001) as server:
        port = int(server.base_url.rpartition(":")[2])
        with proxied(port) as (url, asked):
            monkeypatch.setenv("http_proxy", url)
            for command in _commands(f"http://{NAME}:{port}", compiled):
                before = len(asked)
                done = aot(*command)
                assert len(asked) > before, done.stderr
                assert "is not reachable" not in done.stderr
            through = len([a for a in asked if "/v1/chat/completions" in a])
            assert through >= 4
            assert all(f"http://{NAME}:{port}/" in a and "with login" in a for a in asked)
            errors = (tmp_path / "run" / "requests.csv").read_text()
            assert "Error" not in errors
            before = len(asked)  # this machine itself is never asked for through a proxy
            assert aot("load", workload, "--url", server.base_url, "-o", "near").returncode == 0
            monkeypatch.setenv("no_proxy", NAME)
            check(aot("load", workload, "--url", f"http://{NAME}:{port}"), 1, "is not reachable")
            assert len(asked) == before


def test_a_proxy_of_another_kind_is_named(
    aot: Aot, workload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://u:secret@127.0.0.1:1")
    text = check(aot("load", workload, "--url", f"http://{NAME}"), 2, "socks5://127.0.0.1:1")
    assert "secret" not in text
    assert f"NO_PROXY={NAME}" in text
    monkeypatch.setenv("all_proxy", "http://u:secret@127.0.0.1:99999")
    text = check(aot("load", workload, "--url", f"http://{NAME}"), 2, "is no URL of a proxy")
    assert "secret" not in text


def test_certificates_are_trusted_by_all_or_by_none(
    aot: Aot, workload: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stub.serving(gap_s=0.001) as server, tls(server.base_url, tmp_path) as port:
        url = f"https://127.0.0.1:{port}"
        for command in _commands(url, compiled):
            words = "its certificate is not trusted (self"
            code = 2 if command[0] == "audit" else 1
            check(aot(*command), code, url, words, "SSL_CERT_FILE")
        assert server.received == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        for command in _commands(url, compiled):
            before = len(server.received)
            done = aot(*command)
            assert len(server.received) > before, done.stderr
        assert "Error" not in (tmp_path / "run" / "requests.csv").read_text()
        with proxied(port) as (proxy, asked):
            monkeypatch.setenv("https_proxy", proxy)
            done = aot("load", workload, "--url", f"https://{NAME}:{port}", "-o", "far")
            assert done.returncode == 0, done.stderr
            assert all(a.startswith(f"CONNECT {NAME}:{port} ") and "with login" in a for a in asked)
            assert len(asked) > 2
            assert "Error" not in (tmp_path / "far" / "requests.csv").read_text()


def test_a_file_of_certificates_that_is_none_is_named(
    aot: Aot, workload: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    url = "https://127.0.0.1:9"
    check(aot("load", workload, "--url", url), 2, "SSL_CERT_FILE", "gone.pem does not exist")
    (tmp_path / "gone.pem").write_text("no certificate")
    check(aot("load", workload, "--url", url), 2, "gone.pem", "no file of certificates")
    assert network.certificates() == str(tmp_path / "gone.pem")
    with pytest.raises(UsageError, match=r"gone\.pem"):
        network.trusting()


def test_the_first_variable_that_is_set_names_the_certificates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in reversed(network.CERTIFICATE_VARIABLES):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
        assert network.certificates() == str(tmp_path / name)
