"""Client API keys: read from the environment, kept only as SHA-256 digests."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ray.config.schema import Config
from ray.errors import RayError

MAX_KEYS_CHARS = 65_536
MAX_KEYS = 128
MAX_KEY_CHARS = 1024
_UNSAFE = re.compile(r"[\s\x00-\x20\x7f]")  # \s covers every Unicode whitespace


def resolve_api_keys(config: Config, environ: Mapping[str, str]) -> frozenset[bytes]:
    """SHA-256 digests (32 bytes each) of the client keys in the variable that `auth.apiKeyEnv` names.

    Keys are separated by commas or newlines. Empty while auth is off. Raises `RayError` config_validation_error, which
    never shows a key.
    """
    if not config.auth.enabled:
        return frozenset()
    variable = config.auth.api_key_env
    text = environ.get(variable, "")
    if not text.strip():
        raise _refused(
            variable,
            "is empty: auth is enabled, so it must hold at least one API key (`openssl rand -hex 32` makes one)",
        )
    if len(text) > MAX_KEYS_CHARS:
        raise _refused(variable, f"must be at most {MAX_KEYS_CHARS} characters")
    keys = [part.strip() for part in text.replace("\n", ",").split(",")]
    keys = [key for key in keys if key]
    if not keys:
        raise _refused(variable, "must hold at least one API key")
    if len(keys) > MAX_KEYS:
        raise _refused(variable, f"must hold at most {MAX_KEYS} API keys, not {len(keys)}")
    return frozenset(_digest(_checked(key, variable)) for key in keys)


def _checked(key: str, variable: str) -> str:
    if len(key) > MAX_KEY_CHARS:
        raise _refused(variable, f"holds an API key of more than {MAX_KEY_CHARS} characters")
    if _UNSAFE.search(key):
        raise _refused(
            variable, "holds an API key with whitespace or control characters: no Bearer header can carry it"
        )
    return key


def _digest(key: str) -> bytes:
    # Loading OpenSSL costs milliseconds and megabytes that a gateway without auth need not spend.
    import hashlib

    # A byte that is not UTF-8 arrives as a lone surrogate (PEP 383) and goes back to the byte it was.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _refused(variable: str, problem: str) -> RayError:
    return RayError("config_validation_error", f"{variable} {problem}", details={"variable": variable})
