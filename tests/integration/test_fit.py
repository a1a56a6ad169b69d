"""The memory model against a real `llama-server`: its own figures, and what the kernel counts after a full context.

How close: what the server prints for weights and KV cache must be met to the 0.01 MiB it prints; the compute buffer
may be predicted up to a fifth too large, because how its parts overlap depends on the architecture. The process as a
whole (resident memory, shared pages of the file included) may be up to a tenth smaller than predicted, never larger: a
prediction below what is used would let the kernel end the backend. Copies of weights in the processor's order and the
checkpoints really made are taken from the log: how many there are is up to the processor and to the requests.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ray.providers import ModelMemory, ServerShape, memory_of, read_gguf
from ray.types import MIB
from tests.integration.backend import LlamaServerProcess, ask
from tests.integration.conftest import Backend

BATCH, PHYSICAL_BATCH = 256, 128  # what LlamaServerProcess starts with
COMPUTE_TOLERANCE = 1.20
PROCESS_TOLERANCE = 1.10
PRINTED_MIB = 0.011


@pytest.fixture(params=["whole context", "sliding window"])
def model(request: pytest.FixtureRequest, backend: Backend) -> Path:
    """A model that sees the whole context in each layer, and one that mostly looks back over a window."""
    if request.param == "whole context":
        return backend.model
    path: Path = request.getfixturevalue("sliding_window_model")
    return path


@pytest.mark.parametrize(("context", "slots", "unified"), [(1024, 1, True), (2048, 2, False)])
def test_the_server_needs_what_was_predicted(
    backend: Backend, model: Path, tmp_path: Path, context: int, slots: int, unified: bool
) -> None:
    shape = ServerShape(context, slots, unified, BATCH, PHYSICAL_BATCH, prompt_cache=0)
    predicted = memory_of(read_gguf(str(model)), shape)
    server = start(backend, model, tmp_path, shape)
    try:
        server.wait_healthy()
        for slot in range(slots):
            fill(server, slot, context // slots)
        resident = resident_bytes(server.pid)
    finally:
        server.stop()
    log = server.log.read_text("utf-8", "replace")
    compare_buffers(predicted, log)
    kept = sum(printed(r"created context checkpoint .* size = +([0-9.]+) MiB", log))
    expected = predicted.fixed + repacked(log) + round(kept * MIB)
    assert resident <= expected <= resident * PROCESS_TOLERANCE, f"{resident / MIB:.1f} of {expected / MIB:.1f} MiB"


def test_a_long_conversation_keeps_the_checkpoints_that_were_allowed_and_no_more(
    backend: Backend, sliding_window_model: Path, tmp_path: Path
) -> None:
    """Given a limit of three, when a prompt grows turn by turn, then memory stays within what three of them take."""
    shape = ServerShape(2048, 1, True, BATCH, PHYSICAL_BATCH, prompt_cache=0, checkpoints=3)
    predicted = memory_of(read_gguf(str(sliding_window_model)), shape)
    server = start(backend, sliding_window_model, tmp_path, shape)
    try:
        server.wait_healthy()
        for context in range(600, 1100, 100):
            fill(server, 0, context)
        resident = resident_bytes(server.pid)
    finally:
        server.stop()
    log = server.log.read_text("utf-8", "replace")
    assert {int(number) for number in printed(r"created context checkpoint ([0-9]+) of 3", log)} == {1, 2, 3}
    assert predicted.total is not None
    assert resident <= predicted.total + repacked(log)


def start(backend: Backend, model: Path, directory: Path, shape: ServerShape) -> LlamaServerProcess:
    # The last of several equal flags counts.
    pool = "--kv-unified" if shape.unified else "--no-kv-unified"
    limits = ("--cache-ram", "0", "--ctx-checkpoints", str(shape.checkpoints))
    extra = (pool, *limits, "--log-verbosity", "5")
    server = LlamaServerProcess(
        backend.binary, model, directory / "server.log", slots=shape.slots, ctx_size=shape.context, extra=extra
    )
    server.start()
    return server


def fill(server: LlamaServerProcess, slot: int, context: int) -> None:
    """Fill the slot's context up to its last few tokens."""
    prompt = [300 + number * 7 % 1000 for number in range(context - 24)]
    document = {"prompt": prompt, "n_predict": 8, "id_slot": slot, "cache_prompt": True}
    assert ask(server.port, "POST", "/completion", document, timeout=240).status == 200


def resident_bytes(pid: int) -> int:
    """Resident memory in bytes, pages of the mapped model included, whoever else may have mapped them."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"^VmRSS:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def printed(pattern: str, log: str) -> list[float]:
    return [float(figure) for figure in re.findall(pattern, log)]


def repacked(log: str) -> int:
    """Bytes of weights that were copied into the processor's order, of the second pass as well."""
    sizes = printed(r"CPU_REPACK model buffer size = +([0-9.]+) MiB", log)
    return round(sizes[-1] * MIB) if sizes else 0


def compare_buffers(predicted: ModelMemory, log: str) -> None:
    """The figures of the second, real pass; in the first, llama-server only measures and allocates nothing."""
    weights = printed(r"CPU_Mapped model buffer size = +([0-9.]+) MiB", log)[-1]
    assert predicted.weights / MIB == pytest.approx(weights, abs=PRINTED_MIB)
    buffers = [size for size in printed(r"CPU KV buffer size = +([0-9.]+) MiB", log) if size]
    assert predicted.kv_cache / MIB == pytest.approx(sum(buffers), abs=len(buffers) * PRINTED_MIB)
    compute = printed(r"CPU compute buffer size = +([0-9.]+) MiB", log)[-1]
    assert compute <= predicted.compute / MIB <= compute * COMPUTE_TOLERANCE
    sizes = printed(r"created context checkpoint .* size = +([0-9.]+) MiB", log)
    assert max(sizes, default=0.0) == pytest.approx(predicted.checkpoint / MIB, abs=0.05)
