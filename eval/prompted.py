"""An engine asked with a prompt: a release as it was trained, or any model zero-shot, few-shot or few-shot with retrieved examples.

The customer's text goes in first, cut to its budget; then examples, best first, as long as prompt and answer fit the context.
The best one stands last, next to the message (Liu et al. 2021, arXiv 2101.06804). Where the taxonomy's instructions would leave
no room for examples they are left out and the examples speak for themselves (`instructed=False`). How many examples a prompt
holds is flagged as `shots:3` where it is fewer than were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from eval.metrics import macro_f1
from eval.predict import predict_split
from eval.predictions import PredictionRow, load_predictions
from eval.questions import Question, to_questions
from eval.retrieval import FixedExamples, Pick
from eval.rung import Reading, Rung, RungCard
from triage.answer import Answer, with_flag
from triage.dataset import Example
from triage.engines.base import Engine
from triage.engines.chatml import render_chatml
from triage.errors import RunError
from triage.prompt import Prompt, PromptKind, build_prompt, prompt_id
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Message

How = Literal["tuned", "zero_shot", "few_shot", "retrieved"]
Ask = Callable[[Prompt, float], Coroutine[Any, Any, Reading]]
"""Asks a model one prompt, to be answered within so many seconds."""
K_CHOICES = (1, 2, 4, 8)
MESSAGE_TOKENS = 384
"""The most of a message that the embedded base is shown, in its tokens, as the embedded release is served."""
DEADLINE_S = 120.0
SPARE_TOKENS = 2
"""A text next to a template's marks can take a token or two more than by itself."""


class FreeEngine(Engine, Protocol):
    """An engine that can also write without a schema."""

    async def write_free(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        """As `answer`, with whatever the model writes."""
        ...


class Prompted:
    """One engine, one way of asking it.

    Args:
        name: the rung's name.
        engine: counts tokens, and answers unless `ask` does.
        how: `tuned` is the message alone.
        prompt_tokens: the longest prompt that leaves room for an answer, in the engine's tokens.
        pick: chooses the examples; none for `tuned` and `zero_shot`.
        k: how many of them.
        message_tokens: the most of a message that is shown, in the engine's tokens; `tuned` has the engine's own budget.
        instructed: whether the taxonomy's instructions go in.
        ask: another way of asking than `engine.answer`, for example without a schema.
        deadline_s: how long one message may take.
        config, inputs: what else the rung's card names.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        taxonomy: Taxonomy,
        how: How,
        *,
        prompt_tokens: int,
        pick: Pick | None = None,
        k: int = 0,
        message_tokens: int = MESSAGE_TOKENS,
        instructed: bool = True,
        ask: Ask | None = None,
        is_free: bool = False,
        concurrency: int = 1,
        deadline_s: float = DEADLINE_S,
        config: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        self._engine, self._taxonomy, self._how, self._pick, self._k = engine, taxonomy, how, pick, k
        self._instructed = instructed or how in ("tuned", "zero_shot")
        self._prompt_tokens, self._deadline_s = prompt_tokens, deadline_s
        self._ask = ask or ask_engine(engine)
        self._message_tokens: int | None = None
        frame = self._count(self._render(Message(message=""), ()))
        self._message_tokens = engine.text_budget if how == "tuned" else max(1, min(message_tokens, prompt_tokens - frame - SPARE_TOKENS))
        settings = {"how": how, "k": k, "instructed": self._instructed, "prompt_tokens": prompt_tokens, "message_tokens": self._message_tokens}
        self.card = RungCard(
            name,
            {**settings, **(config or {})},
            {"prompt": self._prompt_id(), **(inputs or {})},
            is_free=is_free,
            is_prompted=True,
            concurrency=concurrency,
            packages=("onnxruntime", "tokenizers", "numpy", "httpx"),
        )

    def prepare(self) -> None:
        """The engine is ready."""

    async def read(self, question: Question) -> Reading:
        prompt, shots = self.build(question)
        reading = await self._ask(prompt, self._deadline_s)
        return replace(reading, answer=with_flag(reading.answer, f"shots:{shots}")) if shots < self._k else reading

    def build(self, question: Question) -> tuple[Prompt, int]:
        """The prompt for one message, and how many examples it holds."""
        shots: list[Example] = []
        prompt = self._render(question.message, shots)
        for example in self._pick(question) if self._pick else ():
            longer = self._render(question.message, [example, *shots])
            if self._count(longer) <= self._prompt_tokens:
                prompt, shots = longer, [example, *shots]
        return prompt, len(shots)

    def _render(self, message: Message, examples: Sequence[Example]) -> Prompt:
        kind: PromptKind = "tuned" if self._how == "tuned" else "few_shot" if examples else "zero_shot"
        shown = [(example, example.labels) for example in examples]
        prompt = build_prompt(
            message, self._taxonomy, kind=kind, examples=shown, text_budget=self._message_tokens, count_tokens=self._engine.count_tokens
        )
        return prompt if self._instructed else replace(prompt, messages=prompt.messages[1:])

    def _count(self, prompt: Prompt) -> int:
        return self._engine.count_tokens(render_chatml(prompt))

    def _prompt_id(self) -> str:
        """The core's id of everything but the message; retrieved examples are not part of it, and `-bare` says there are no instructions."""
        if self._how in ("tuned", "zero_shot"):
            return prompt_id("tuned" if self._how == "tuned" else "zero_shot", self._taxonomy)
        fixed = self._pick.examples if isinstance(self._pick, FixedExamples) else ()
        return prompt_id("few_shot", self._taxonomy, [(example, example.labels) for example in fixed]) + ("" if self._instructed else "-bare")


def ask_engine(engine: Engine) -> Ask:
    """Asks inside the schema."""

    async def ask(prompt: Prompt, deadline_s: float) -> Reading:
        [answer] = await engine.answer([prompt], deadline_s=deadline_s)
        return _to_reading(answer)

    return ask


def ask_free(engine: FreeEngine) -> Ask:
    """Asks without a schema."""

    async def ask(prompt: Prompt, deadline_s: float) -> Reading:
        [answer] = await engine.write_free([prompt], deadline_s=deadline_s)
        return _to_reading(answer)

    return ask


def _to_reading(answer: Answer) -> Reading:
    return Reading(answer, answer.prompt_tokens, answer.output_tokens)


@dataclass(frozen=True)
class KChoice:
    """The number of examples that was best on dev, the category macro-F1 and exact match of every number tried.

    `rows` are the best one's, for a run of the same rung; none where another version of the code made them.
    """

    k: int
    scores: dict[int, tuple[float, float]]
    rows: list[PredictionRow]


async def choose_k(make: Callable[[int], Rung], dev: Sequence[Example], folder: Path, taxonomy: Taxonomy, *, dataset: str) -> KChoice:
    """Predict dev with each of `K_CHOICES` into `folder`/k1, k2, …, and take the best category macro-F1, then exact match, then the smallest.

    Exact match alone stands at its floor for weak models, where one ticket would choose. A score on dev of a number chosen
    on dev is a little too good. `dataset` is the digest of the dev file.

    Raises:
        RunError: rows failed, so the numbers cannot be compared.
    """
    scores: dict[int, tuple[float, float]] = {}
    best: list[PredictionRow] = []
    for k in K_CHOICES:
        report = await predict_split(make(k), to_questions(dev), folder / f"k{k}", taxonomy, dataset=dataset, split="dev")
        if report.failed:
            hint = "run the same command again" if report.is_current else f"remove {report.folder}, then run the same command again"
            raise RunError(f"k cannot be chosen: {report.failed} of {len(dev)} rows failed in {report.folder}", hint)
        rows = load_predictions(report.folder, dev, taxonomy, dataset=dataset).rows
        truth = [example.labels.category for example in dev]
        guess = [row.after.category if row.after else "" for row in rows]
        score = (round(macro_f1(truth, guess, [*taxonomy.labels("category"), ""]), 6), sum(map(is_exact, rows, dev)) / len(dev))
        if score > max(scores.values(), default=(-1.0, -1.0)):
            best = rows if report.is_current else []
        scores[k] = score
    return KChoice(max(scores, key=lambda k: scores[k]), scores, best)


def is_exact(row: PredictionRow, example: Example) -> bool:
    """Whether all four labels that leave the house are those of the example."""
    return row.after is not None and all(row.after.label(field) == example.labels.label(field) for field in LABEL_FIELDS)
