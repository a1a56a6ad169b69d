"""Ray from an asyncio program: several questions at once, the first tokens as they come. From the directory that holds
`ray/`:

RAY_URL=http://127.0.0.1:3000 RAY_API_KEY=... PYTHONPATH=. python3 examples/clients/ray_client_async.py
"""

from __future__ import annotations

import asyncio
import os
import sys

from ray.client import AsyncRayClient, RayClientError, Retries

QUESTIONS = ("Name three colours.", "Name three animals.", "Name three rivers.")


async def ask(client: AsyncRayClient, question: str) -> str:
    answer = await client.infer({"input": question, "maxTokens": 40})
    return f"{question} {answer['output']}"


async def main() -> int:
    url = os.environ.get("RAY_URL", "http://127.0.0.1:3000")
    key = os.environ.get("RAY_API_KEY")
    async with AsyncRayClient(url, api_key=key, timeout_ms=150_000, retries=Retries()) as client:
        try:
            for answer in await asyncio.gather(*(ask(client, question) for question in QUESTIONS)):
                print(answer)
            async with client.stream(QUESTIONS[0]) as tokens:
                async for text in tokens:
                    print(text, end="", flush=True)
            print()
        except RayClientError as error:
            print(f"ray_client_async: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
