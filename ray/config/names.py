"""Rules for names and words that appear inside values: variables, headers, flags, callback hosts.

Each function takes a text and returns the problem with it ("must …"), or None.
"""

from __future__ import annotations

import re

from ray.config.hosts import is_dns_name, is_ipv6, parse_address

UNSAFE_KEYS = frozenset({"__proto__", "constructor", "prototype"})
ENVIRONMENT_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token, RFC 9110 section 5.6.2
_HEADER_BREAKS = re.compile(r"[\0\r\n]")

# Framing and hop-by-hop fields (RFC 9110 section 7.6.1), and the two that describe the body Ray itself writes.
RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# llama-server flags that the launch profile sets: a second occurrence would silently win over the checked value.
MANAGED_FLAGS = frozenset(
    {
        "--alias",
        "--batch-size",
        "--cache-idle-slots",
        "--cache-prompt",
        "--cache-ram",
        "--cache-reuse",
        "--cont-batching",
        "--context-shift",
        "--ctx-size",
        "--host",
        "--kv-unified",
        "--metrics",
        "--model",
        "--no-cache-idle-slots",
        "--no-cache-prompt",
        "--no-cont-batching",
        "--no-context-shift",
        "--no-kv-unified",
        "--no-slots",
        "--no-warmup",
        "--parallel",
        "--port",
        "--slot-save-path",
        "--slots",
        "--threads",
        "--threads-batch",
        "--threads-http",
        "--ubatch-size",
        "--warmup",
        "-a",
        "-b",
        "-c",
        "-cb",
        "-cram",
        "-kvu",
        "-m",
        "-nocb",
        "-no-kvu",
        "-np",
        "-t",
        "-tb",
        "-ub",
    }
)
# Flags that would open the backend to the network or the disk, or turn it into something Ray does not speak to.
UNSUPPORTED_FLAGS = frozenset(
    {
        "--api-prefix",
        "--kv-unified-per-slot",
        "--reuse-port",
        "--embedding",
        "--embeddings",
        "--rerank",
        "--reranking",
        "-hf",
        "-hfr",
        "--hf-repo",
        "-mu",
        "--model-url",
        "--path",
        "--media-path",
        "--agent",
        "-ag",
        "--ui-mcp-proxy",
    }
)
_UNSUPPORTED_PREFIXES = ("--ssl-", "--models-", "--tools", "--mcp-servers-")
_SECRET_FLAGS = frozenset({"-hft"})
_SECRET_PREFIXES = ("--api-key", "--hf-token")


def environment_name_problem(value: str) -> str | None:
    """The name of an environment variable: letters, digits, underscores, no digit first."""
    if not _ENVIRONMENT_NAME.fullmatch(value) or value in UNSAFE_KEYS:
        return "must be a valid environment variable name (letters, digits and underscores)"
    return None


def host_problem(value: str) -> str | None:
    """A bind address: whatever the system resolves, but no blanks, which would only fail later and less clearly."""
    return "must not contain whitespace" if any(character.isspace() for character in value) else None


def header_name_problem(name: str) -> str | None:
    """A header that may be sent to the backend."""
    if not _HEADER_NAME.fullmatch(name):
        return "must be a valid HTTP header name"
    if name.lower() in RESERVED_HEADERS:
        return f"{name.lower()!r} is reserved: Ray sets this header itself"
    return None


def header_value_problem(value: str) -> str | None:
    """No way to smuggle a second header in."""
    return "must not contain NUL, carriage return or line feed" if _HEADER_BREAKS.search(value) else None


def extra_argument_problem(argument: str) -> str | None:
    """A llama-server argument that Ray does not manage. The part before the first `=` is compared."""
    flag = argument.split("=", 1)[0]
    if flag.startswith("--"):
        flag = flag.replace("_", "-")  # llama.cpp's parser takes `--api_key` for `--api-key` (common/arg.cpp)
    if flag == "--slot-save-path":
        # Elsewhere than Ray looks, nothing could be bounded, checked or found again.
        return f"must not use {flag}: set prefixStore.storageDir or RAY_PREFIX_STORE_STORAGE_DIR instead"
    if flag in MANAGED_FLAGS:
        return f"must not use {flag}: set the launchProfile key or its RAY_LLAMA_CPP_* variable instead"
    if flag in _SECRET_FLAGS or flag.startswith(_SECRET_PREFIXES):
        return f"must not use {flag}: arguments are visible to every user of the machine; use an environment file"
    if flag in UNSUPPORTED_FLAGS or flag.startswith(_UNSUPPORTED_PREFIXES):
        return f"must not use {flag}: it would break or open the backend behind this gateway"
    return None


def callback_host_problem(entry: str) -> str | None:
    """A DNS name, `*.` and a DNS name, or an IP address (IPv6 with or without brackets); never a port or a URL."""
    name = entry.lower().removesuffix(".")
    if parse_address(name) is not None or is_dns_name(name):
        return None
    if name.startswith("[") and name.endswith("]") and is_ipv6(name[1:-1]):
        return None
    if name.startswith("*.") and is_dns_name(name[2:]):
        return None
    return "must be a host name, `*.` and a host name, or an IP address, without scheme, port or path"
