"""The embedded engine in a process of its own.

A crash in native code, an engine that runs out of memory, hangs or is stopped by an operator takes no request with it:
the message becomes an unread ticket, and the engine is started again. It also keeps decoding off the event loop's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from triage.answer import Answer, Failure
from triage.engines.embedded import EmbeddedEngine, load_embedded_engine
from triage.engines.onnx_bundle import load_tokenizer
from triage.errors import EngineError, TriageError
from triage.logs import log_event
from triage.prompt import Prompt, PromptKind
from triage.release import load_release
from triage.taxonomy import Taxonomy

logger = logging.getLogger("service")
START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 5.0
WATCH_INTERVAL_S = 0.2
GRACE_S = 1.0
"""How long past its deadline an answer is waited for before the message is given up."""

_engine: EmbeddedEngine | None = None
"""The engine of this process, set only in the child."""


def _start(taxonomy: Taxonomy, folder: Path, threads: int | None) -> int:
    """Load the engine in the child and return the child's process id. Not an initializer: an error in one is lost on the way."""
    global _engine
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a stop signal to the whole group is the service's to handle: it drains first
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _engine = load_embedded_engine(taxonomy, folder, threads=threads)
    return os.getpid()


def _die_with_parent() -> None:
    """End this process when the service is gone: its queue alone would keep it waiting for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(0)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _answer(prompts: list[Prompt], end: float) -> list[Answer]:
    assert _engine is not None
    if time.time() >= end:
        return [Failure("timeout", "the deadline passed while waiting for the engine") for _ in prompts]
    # Each prompt is given what the ones before it have left.
    return [_engine.answer_now(prompt, deadline_s=end - time.time()) for prompt in prompts]


class EngineProcess:
    """An `Engine` whose model lives in a child process. Call `start` before the first message.

    Raises:
        ReleaseError: the bundle is missing, damaged or of another taxonomy.
    """

    name = "embedded"

    def __init__(self, taxonomy: Taxonomy, folder: Path, *, threads: int | None = None, restart_s: float = 5.0) -> None:
        release = load_release(folder, taxonomy)
        self.release = release.manifest.name
        self.prompt_kind: PromptKind = release.manifest.prompt_kind
        self.text_budget = release.manifest.text_budget
        self._tokenizer = load_tokenizer(release)
        self._arguments = (taxonomy, folder, threads)
        self._restart_s = restart_s
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0
        self._last_answer = 0.0
        self._watch: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """True while the child lives."""
        return self._pool is not None and any(child.pid == self._pid for child in multiprocessing.active_children())

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    async def start(self) -> None:
        """Start the child, wait until it has loaded the model, and from then on start it again whenever it dies.

        Raises:
            ReleaseError: the bundle is not what it was when this object was made.
            EngineError: it does not come up.
        """
        await self._start_child()
        self._watch = asyncio.get_running_loop().create_task(self._keep_alive())

    async def _start_child(self) -> None:
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            self._pid = await asyncio.wait_for(asyncio.wrap_future(pool.submit(_start, *self._arguments)), START_TIMEOUT_S)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.kill()
            if not isinstance(error, BrokenProcessPool | TimeoutError):
                raise
            raise EngineError(f"the engine process does not start: {type(error).__name__}", "run `triage doctor`") from error
        self._pool = pool
        log_event(logger, "engine_started", engine=self.name, release=self.release, engine_pid=self._pid)

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        pool = self._pool
        if pool is None:
            return [Failure("unavailable", "the engine is not running") for _ in prompts]
        asked = time.monotonic()
        try:
            future = pool.submit(_answer, list(prompts), time.time() + deadline_s)
            answers = await asyncio.wait_for(asyncio.wrap_future(future), deadline_s + GRACE_S)
        except TimeoutError:
            if self._last_answer < asked:
                # Nothing came out of the engine in all that time, although it drops what is late: it hangs, and is not merely busy.
                log_event(logger, "engine_hung", level=logging.ERROR, engine=self.name, engine_pid=self._pid)
                _kill(self._pid)
            return [Failure("timeout", "the engine did not answer in time") for _ in prompts]
        except RuntimeError as error:  # the pool is broken, or was shut down between the two lines above
            return [Failure("unavailable", f"the engine process is gone: {type(error).__name__}") for _ in prompts]
        self._last_answer = time.monotonic()
        return answers

    async def aclose(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True), CLOSE_TIMEOUT_S)
            except TimeoutError:
                _kill(self._pid)

    async def _keep_alive(self) -> None:
        """Notice a dead child and start another after a pause, for as long as the engine is open."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if self.ready:
                continue
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.shutdown(wait=False)  # without cancelling: what waits in a broken pool fails by itself, as unavailable
                log_event(logger, "engine_died", level=logging.ERROR, engine=self.name, restart_in_s=self._restart_s)
            await asyncio.sleep(self._restart_s)
            try:
                await self._start_child()
            except Exception as error:  # whatever it is, the next try may succeed, and without one no message is ever read again
                reason = str(error) if isinstance(error, TriageError) else type(error).__name__
                log_event(logger, "engine_restart_failed", level=logging.ERROR, reason=reason)
