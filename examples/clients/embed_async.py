"""Ray inside an asyncio program, without a port. From the directory that holds `ray/`:

PYTHONPATH=. python3 examples/clients/embed_async.py my.json
"""

import asyncio
import sys

import ray


async def main(config: str) -> None:
    """Print an answer as it comes."""
    async with ray.Gateway(config) as gateway:
        async for text in gateway.stream("Name three colours of the rainbow.", max_tokens=24):
            print(text, end="", flush=True)
        print()


asyncio.run(main(sys.argv[1]))
