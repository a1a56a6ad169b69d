"""The fake `llama-server` as a program: it needs `--port` of the real one's flags, and stops at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.fakes.llama_server import FakeLlamaServer, body_answer

METRICS = b"".join(
    b"llamacpp:%s_total 7\n" % name
    for name in (b"prompt_tokens", b"prompt_seconds", b"tokens_predicted", b"tokens_predicted_seconds")
)


async def serve(port: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    fake = FakeLlamaServer(port)
    fake.always("/metrics", body_answer(METRICS, 200, "text/plain; version=0.0.4"))
    async with fake:
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[sys.argv.index("--port") + 1])))
