"""The OpenAI-compatible protocol: request bodies to `InferenceRequest`s, answers to its documents and chunks.

Nothing here knows of HTTP or of the runtime's work; the routes put both together.
"""
