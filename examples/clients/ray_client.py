"""Ray from a Python program: an answer, a stream, a task profile, a job. From the directory that holds `ray/`:

RAY_URL=http://127.0.0.1:3000 RAY_API_KEY=... PYTHONPATH=. python3 examples/clients/ray_client.py "Why is the sky blue?"
"""

from __future__ import annotations

import os
import sys

from ray.client import RayClient, RayClientError, RayRefused, Retries, plan_task

# A little more than the gateway's own limit (`scheduler.requestTimeoutMs`), so that its answer comes first.
TIMEOUT_MS = 150_000


def main(question: str) -> int:
    url = os.environ.get("RAY_URL", "http://127.0.0.1:3000")
    key = os.environ.get("RAY_API_KEY")
    with RayClient(url, api_key=key, timeout_ms=TIMEOUT_MS, retries=Retries(attempts=4)) as client:
        try:
            print("--- token by token")
            with client.stream({"input": question, "maxTokens": 120}) as tokens:
                for text in tokens:
                    print(text, end="", flush=True)
            print(f"\n({tokens.result['finishReason']})")

            print("--- what kind of message is this?")
            plan = plan_task({"input": question, "system": 'Answer with {"intent": …}.'}, "classify")
            print(client.infer(plan.request, timeout_ms=plan.execution.timeout_ms)["output"])

            print("--- work that must not be lost")
            job = client.create_job({"input": question, "maxTokens": 20}, idempotency_key="example-1")
            print(client.wait_job(job["id"])["status"])
        except RayRefused as refusal:
            # `code` is for programs: this one is not an error here, durable jobs are off unless switched on.
            if refusal.code != "async_queue_disabled":
                print(f"ray_client: {refusal}", file=sys.stderr)
                return 1
            print("durable jobs are off")
        except RayClientError as error:
            print(f"ray_client: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "Name three uses of a small language model."))
