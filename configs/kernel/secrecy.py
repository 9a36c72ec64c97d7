"""What is secret: variables that hold keys, and values that are to be seen by nobody.

A value that is known to be secret is a pydantic `SecretStr` from the moment it is read: it shows
itself as stars wherever it is written, and leaves only where it is asked for by name.
"""

from __future__ import annotations

import os
import re

from aot.configs.kernel.errors import UsageError

SECRET_WORDS = frozenset(
    "apikey auth authorization bearer cookie credential creds dsn jwt key license pass passcode "
    "passphrase passwd password pat pin private pw pwd secret session token webhook".split()
)
"""In the singular, and without the digits of a second one."""
ENDINGS = ("key", "pass", "passwd", "password", "passcode", "secret", "token", "credential",
           "connectionstring")  # fmt: skip
SWITCHES = frozenset({"key", "token", "session", "auth", "private", "license", "pass"})
"""Words that names of limits and switches have, too: MAX_TOKENS=4096 is no secret."""
SWITCH = re.compile(r"\d{1,2}|true|false|yes|no|on|off|none|auto", re.IGNORECASE)
LIMIT = re.compile(r"\d{1,9}(\.\d+)?")
SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@"  # a URL with a password
    r"|^(hf_|sk-|sk_|gh[opsu]_|github_pat_|glpat-|xox[abpr]-|AKIA|ASIA|AIza|Bearer |Basic )"
    r"|^eyJ[\w-]{8,}\.|-----BEGIN "
    # "api_key": "...", AccountKey=..., password: ...: inside JSON, connection strings, options
    r"|(?i:(key|secret|passwd|password|pwd|token|credentials?)[\"']?\s*[:=]\s*[\"']?[^\s\"',}\d])"
)


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable of that name, with that value, is to be kept from sight. Rather too often
    than not: what is hidden in vain is passed on all the same, by reference."""
    if SECRET_VALUE.search(value):
        return True
    split = re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name)
    words = [word.lower() for word in split if word]
    told = {w for w in words if _singular(w) in SECRET_WORDS or _singular(w).endswith(ENDINGS)}
    if "connection" in words and "string" in words:
        return True
    if told <= {"tokens"} and LIMIT.fullmatch(value):
        return False
    return bool(told) and not ({_singular(w) for w in told} <= SWITCHES and SWITCH.fullmatch(value))


def _singular(word: str) -> str:
    return word if word.endswith("ss") else word.removesuffix("s")


def is_secret_flag(flag: str) -> bool:
    """Whether the value of a command's flag is a secret: --hf-token, not --max-tokens."""
    last = flag.rstrip("-").rpartition("-")[2].lower()
    return last in {"pat", "pwd", "credentials", "secrets"} or last.endswith(ENDINGS)


def held_in(variable: str, named_by: str) -> str:
    """The key that an environment variable holds. `named_by`: the option or file key that says so.

    Raises UsageError where it is not set, or empty: an empty key is none, and both engines would
    serve everybody with it; or where it has characters that no header can carry.
    """
    value = os.environ.get(variable)
    if value is None:
        raise UsageError(
            f"{named_by}: environment variable {variable} is not set; export it with the key"
        )
    if not value.strip():
        raise UsageError(
            f"{named_by}: environment variable {variable} is empty, and an empty key is no key; "
            "export it with the key"
        )
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise UsageError(
            f"{named_by}: the value of environment variable {variable} has a space around it, a "
            "line break, or a character that no HTTP header can carry; export the key alone"
        )
    return value
