"""What a server's refusal is told as: its own words, and the remedy for the usual ones."""

from __future__ import annotations

from aot.configs.dialects.dialect import WORDS
from aot.configs.kernel import network
from aot.configs.kernel.errors import EndpointError


def refused(where: str, status: int, words: str, key_env: str | None, model: str) -> EndpointError:
    """An answer that is no success. `key_env`: the variable that holds the key; None without."""
    said = f"{where} answered {status}"
    words = " ".join(words.split())[:WORDS]
    if status in (401, 403):
        held = key_env or "an environment variable"
        return EndpointError(
            f"{said} (not authorized): {words}. Put a key that is valid into {held} and name it: "
            f"--api-key-env {key_env or 'NAME'}"
        )
    if status == 404:
        return EndpointError(f"{said}: {words}. Is '{model}' a model it serves?")
    if status == 429:
        return EndpointError(f"{said} (too many requests): {words}. Wait, or send less.")
    return EndpointError(f"{said}: {words}. Its own log says more.")


def not_as_expected(where: str, endpoint: str, body: str, why: str = "") -> EndpointError:
    """A success by its status, with something else in it than that kind of `endpoint` answers."""
    words = " ".join(body.split())[:WORDS] or "nothing"
    why = f" ({why})" if why and "not JSON" not in why else ""
    return EndpointError(
        f"{where} answered 200, but not as a {endpoint} API does{why}: {words}. Is this the "
        "server's own address, or a login page or gateway in front of it?"
    )


def unreachable(where: str, error: BaseException) -> EndpointError:
    """No answer at all."""
    if words := network.untrusted(error):
        return EndpointError(f"{where}: {words}")
    name = type(error).__name__
    reason = "timed out" if "Timeout" in name else "is not reachable"
    return EndpointError(f"{where} {reason}; is the server running? ({name})")
