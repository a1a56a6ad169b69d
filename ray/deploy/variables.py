"""The variables of the deploy commands themselves: the gateway does not read them, they may stand in its env file."""

from __future__ import annotations

DEFAULT_DOMAIN = "ray.local"
DEFAULT_USER = "ray"
DEFAULT_RUNTIME = "/usr/bin/python3"
DEFAULT_CADDY = "/usr/bin/caddy"
DEFAULT_MIN_FREE_MIB = 1_024
READY_TIMEOUT_SECONDS = 120

USER_VARIABLE = "RAY_DEPLOY_SERVICE_USER"
DOMAIN_VARIABLE = "RAY_DEPLOY_DOMAIN"
MEMORY_VARIABLE = "RAY_DEPLOY_MEMORY_MIB"
PROXY_VARIABLE = "RAY_DEPLOY_PROXY_ADDRESS"
MIN_FREE_VARIABLE = "RAY_DEPLOY_MIN_FREE_STORAGE_MIB"
READY_TIMEOUT_VARIABLE = "RAY_DEPLOY_READY_TIMEOUT_SECONDS"
RUNTIME_VARIABLE = "RAY_GATEWAY_RUNTIME_BINARY"
CADDY_VARIABLE = "RAY_DEPLOY_CADDY_BINARY"

BINARY_SOURCE_VARIABLE = "RAY_LLAMA_CPP_BINARY_SOURCE_PATH"
BINARY_SHA256_VARIABLE = "RAY_LLAMA_CPP_BINARY_SHA256"
MODEL_SOURCE_VARIABLE = "RAY_MODEL_SOURCE_PATH"
MODEL_SHA256_VARIABLE = "RAY_MODEL_SHA256"
ARTIFACTS_DIRECTORY = "/tmp/ray-artifacts"

# Name, default, meaning. The memory target has no default of its own: the config's memory class is one.
DEPLOY_VARIABLES: tuple[tuple[str, str, str], ...] = (
    (USER_VARIABLE, DEFAULT_USER, "Account of the services."),
    (DOMAIN_VARIABLE, DEFAULT_DOMAIN, "Public address of the site."),
    (PROXY_VARIABLE, "", "Address of the Caddy on another machine that is in front of this one; several with commas."),
    (MEMORY_VARIABLE, "", "Memory of the machine to plan for, in MiB; empty: the config's memory class."),
    (MIN_FREE_VARIABLE, str(DEFAULT_MIN_FREE_MIB), "Free disk space in MiB that has to be left everywhere."),
    (
        READY_TIMEOUT_VARIABLE,
        str(READY_TIMEOUT_SECONDS),
        "Seconds that automation outside Ray waits for /readyz after a restart.",
    ),
    (RUNTIME_VARIABLE, DEFAULT_RUNTIME, "Interpreter of the gateway."),
    (CADDY_VARIABLE, DEFAULT_CADDY, "The Caddy to ask."),
)
# Name and meaning of what `model-stage` installs from.
STAGING_VARIABLES: tuple[tuple[str, str], ...] = (
    (BINARY_SOURCE_VARIABLE, "The llama-server to install."),
    (BINARY_SHA256_VARIABLE, "Its SHA-256, 64 hexadecimal digits."),
    (MODEL_SOURCE_VARIABLE, "The GGUF file to install."),
    (MODEL_SHA256_VARIABLE, "Its SHA-256, 64 hexadecimal digits."),
)
