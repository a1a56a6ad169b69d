"""The fields of the OpenAI-compatible routes: what is read, what is refused, and what `GET /openapi.json` says of them.

The tables are read with `null_is_absent`: OpenAI clients send `null` for what they do not mean to say.
"""

from __future__ import annotations

from ray.gateway.openai.messages import MESSAGES
from ray.gateway.openai.neutral import unsupported
from ray.gateway.openai.tools import RESPONSE_FORMAT, TOOL_CHOICE, TOOLS
from ray.runtime import (
    DEFAULT_TEMPERATURE,
    DEFAULT_TOP_P,
    Either,
    Field,
    Flag,
    ListOf,
    Number,
    Object,
    OneOf,
    StringMap,
    Text,
    Whole,
)

MAX_MODEL_CHARS = 512
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_METADATA_ENTRIES = 32
MAX_METADATA_KEY_CHARS = 128
MAX_METADATA_VALUE_CHARS = 1_024
MAX_CHAT_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5
MAX_EMBEDDING_TEXTS = 256

_MODEL = Field("model", Text(MAX_MODEL_CHARS), "The configured model's id or one of its aliases; absent: that model.")
_STOP_TEXT = Text(MAX_STOP_CHARS, min_chars=1)
_STREAM_OPTIONS = (
    Field("include_usage", Flag(), "Send the usage as a last chunk."),
    unsupported("include_obfuscation", False),
)
# What says whose request it is. Ray does nothing with it but keep it with the request, like other metadata.
IDENTIFIERS = ("user", "safety_identifier", "prompt_cache_key")
_SHARED = (
    Field("max_tokens", Whole(1), "Most tokens of the answer. Above the model's ceiling: the ceiling."),
    Field("temperature", Number(0, 2), "0 is the most likely answer.", default=DEFAULT_TEMPERATURE),
    Field("top_p", Number(0, 1), "Nucleus sampling.", default=DEFAULT_TOP_P),
    Field("seed", Whole(), "Equal seeds give equal answers."),
    Field(
        "stop",
        Either(_STOP_TEXT, ListOf(_STOP_TEXT, 0, MAX_STOPS), message="must be a string or an array of strings"),
        "Texts that end the answer.",
    ),
    Field("stream", Flag(), "Send the answer as server-sent events.", default=False),
    Field("stream_options", Object(_STREAM_OPTIONS, null_is_absent=True), "Only with stream."),
    Field("n", OneOf(1), "One answer per request."),
    Field(
        "metadata",
        StringMap(MAX_METADATA_ENTRIES, MAX_METADATA_KEY_CHARS, MAX_METADATA_VALUE_CHARS),
        "As on /v1/infer.",
    ),
    *(Field(name, Text(MAX_METADATA_VALUE_CHARS), "Kept as metadata.") for name in IDENTIFIERS),
    Field("cache", Flag(), "Ray's own: false neither reads nor fills the response cache.", default=True),
    unsupported("frequency_penalty", 0),
    unsupported("presence_penalty", 0),
    unsupported("logit_bias", {}),
    unsupported("service_tier", "auto", "default"),
)
CHAT_FIELDS = (
    _MODEL,
    Field("messages", MESSAGES, "The conversation so far.", required=True),
    *_SHARED,
    Field("max_completion_tokens", Whole(1), "The newer name of max_tokens."),
    Field("logprobs", Flag(), "Send each token's probability."),
    Field("top_logprobs", Whole(0, MAX_CHAT_TOP_LOGPROBS), "So many alternatives of each token; needs logprobs."),
    Field("response_format", RESPONSE_FORMAT, "Hold the answer to JSON, or to a JSON Schema."),
    Field("tools", TOOLS, "Functions that the model may ask to be called."),
    Field("tool_choice", TOOL_CHOICE, "Whether it has to call one, and which."),
    Field("parallel_tool_calls", Flag(), "Whether one answer may call several tools; absent: the backend decides."),
    unsupported("store", False),
    unsupported("modalities", ["text"]),
    *map(
        unsupported,
        (
            "audio",
            "function_call",
            "functions",
            "moderation",
            "prediction",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning_effort",
            "verbosity",
            "web_search_options",
        ),
    ),
)
COMPLETION_FIELDS = (
    _MODEL,
    Field(
        "prompt",
        Either(
            Text(blank=False),
            ListOf(Text(blank=False), 1, 1),
            message="must be a string, or an array with one string",
        ),
        "The text to be continued, as it stands: no chat template is put around it.",
        required=True,
    ),
    *_SHARED,
    Field("logprobs", Whole(0, MAX_COMPLETION_LOGPROBS), "Send each token's probability and so many alternatives."),
    unsupported("best_of", 1),
    unsupported("echo", False),
    unsupported("suffix", ""),
)
EMBEDDING_FIELDS = (
    _MODEL,
    Field(
        "input",
        Either(
            Text(blank=False),
            ListOf(Text(blank=False), 1, MAX_EMBEDDING_TEXTS),
            message="must be a string or an array of strings",
        ),
        "The texts; token ids are not accepted.",
        required=True,
    ),
    Field("encoding_format", OneOf("float", "base64"), "base64: 32-bit floats, little endian.", default="float"),
    Field("user", Text(MAX_METADATA_VALUE_CHARS), "Accepted, and of no effect."),
    unsupported("dimensions"),
)
