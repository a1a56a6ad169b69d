"""A small general HTTP/1.1: a strict sans-IO parser, a server, a client, and server-sent events.

It knows nothing of what is served with it and imports only the standard library, so it could be lifted out.
"""

from ray.http.answer import AnswerBody, AnswerFile, Incoming, answer_head
from ray.http.client import (
    ClientConnectionError,
    ClientError,
    ClientRequestError,
    ClientResponse,
    ClientResponseTooLarge,
    ClientStream,
    ClientTimeout,
    ClientUnreachable,
    HttpClient,
)
from ray.http.messages import Headers, HttpError, Limits, Request, Response
from ray.http.server import ConnectionCounts, Server
from ray.http.sse import COMMENT, SseDecoder, encode_event

__all__ = [
    "COMMENT",
    "AnswerBody",
    "AnswerFile",
    "ClientConnectionError",
    "ClientError",
    "ClientRequestError",
    "ClientResponse",
    "ClientResponseTooLarge",
    "ClientStream",
    "ClientTimeout",
    "ClientUnreachable",
    "ConnectionCounts",
    "Headers",
    "HttpClient",
    "HttpError",
    "Incoming",
    "Limits",
    "Request",
    "Response",
    "Server",
    "SseDecoder",
    "answer_head",
    "encode_event",
]
