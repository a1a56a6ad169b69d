"""Ray with OpenAI's own package (`pip install openai`): only the base URL is another one.

RAY_URL=http://127.0.0.1:3000 RAY_API_KEY=... python3 examples/clients/openai_client.py "Why is the sky blue?"
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI, OpenAIError


def main(question: str) -> int:
    client = OpenAI(
        base_url=os.environ.get("RAY_URL", "http://127.0.0.1:3000") + "/v1",
        api_key=os.environ.get("RAY_API_KEY") or "none",  # the package wants one, also where the gateway does not
        max_retries=2,  # waits as long as Ray's Retry-After says
        timeout=150,
    )
    try:
        model = client.models.list().data[0].id
        chunks = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=120, stream=True
        )
        for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                print(chunk.choices[0].delta.content, end="", flush=True)
        print()
    except OpenAIError as error:
        print(f"openai_client: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "Name three uses of a small language model."))
