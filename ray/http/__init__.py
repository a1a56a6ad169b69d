"""A small general HTTP/1.1: a strict sans-IO parser, a server, a client, and server-sent events.

It knows nothing of what is served with it and imports only the standard library, so it could be lifted out.
"""

from ray.http.client import (
    ClientConnectionError,
    ClientError,
    ClientRequestError,
    ClientResponse,
    ClientResponseTooLarge,
    ClientStream,
    ClientTimeout,
    HttpClient,
)
from ray.http.messages import Headers, HttpError, Limits, Request, Response
from ray.http.server import ConnectionCounts, Server
from ray.http.sse import COMMENT, SseDecoder, encode_event

__all__ = [
    "COMMENT",
    "ClientConnectionError",
    "ClientError",
    "ClientRequestError",
    "ClientResponse",
    "ClientResponseTooLarge",
    "ClientStream",
    "ClientTimeout",
    "ConnectionCounts",
    "Headers",
    "HttpClient",
    "HttpError",
    "Limits",
    "Request",
    "Response",
    "Server",
    "SseDecoder",
    "encode_event",
]
