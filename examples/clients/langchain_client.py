"""Ray with LangChain (`pip install langchain-openai`), by configuration only: its OpenAI class, another base URL.

RAY_URL=http://127.0.0.1:3000 RAY_API_KEY=... python3 examples/clients/langchain_client.py "Why is the sky blue?"
"""

from __future__ import annotations

import os
import sys

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]  # no part of the development environment


def main(question: str) -> None:
    model = ChatOpenAI(
        base_url=os.environ.get("RAY_URL", "http://127.0.0.1:3000") + "/v1",
        api_key=os.environ.get("RAY_API_KEY") or "none",  # the class wants one, also where the gateway does not
        model=os.environ.get("RAY_MODEL", "tiny-dev"),  # an id that GET /v1/models shows
        temperature=0.2,
        max_tokens=120,
        timeout=150,
    )
    for chunk in model.stream(question):
        print(chunk.content, end="", flush=True)
    print()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "Name three uses of a small language model.")
