"""Training the embedded model: tokens, dropout, export. Needs torch."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import BILLING, ROOT
from triage.dataset import Example, load_examples
from triage.engines.chatml import render_chatml
from triage.errors import RunError
from triage.prompt import ChatMessage, Prompt
from triage.taxonomy import load_taxonomy

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]
torch = pytest.importorskip("torch")
BASE = ROOT / "training" / "embedded_base" / "model"
TRAIN = ROOT / "data" / "tickets" / "train.jsonl"


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(BASE / "tokenizer.json"))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return load_examples([TRAIN], load_taxonomy())[:8]


def test_the_base_is_small_distinguishes_pad_from_end_and_loads_unmodified() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert sum(weight.numel() for weight in model.parameters()) <= 24_000_000
    assert model.config.num_key_value_heads <= 2
    assert 12_000 <= len(tokenizer) <= 16_384
    assert tokenizer.pad_token_id != tokenizer.eos_token_id == model.config.eos_token_id
    text = "a parcel, näïve 漢字 👩‍👩‍👧\n\t{}"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_chatml_here_equals_the_tokenizers_own_template() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello\nthere"}]
    prompt = Prompt(tuple(ChatMessage(message["role"], message["content"]) for message in messages))  # type: ignore[arg-type]
    assert render_chatml(prompt) == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_the_base_has_learnt_language() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), AutoTokenizer.from_pretrained(BASE)
    ids = torch.tensor([tokenizer.encode("I would like to return the shoes because they are the wrong size.")])
    with torch.no_grad():
        assert float(model(input_ids=ids, labels=ids).loss) < 4.0


def test_the_answer_alone_is_learnt_and_ends_with_the_stop_token(tokenizer, examples: list[Example]) -> None:  # type: ignore[no-untyped-def]
    from training.examples import IGNORED, encode_example

    sequence = encode_example(examples[0], examples[0].labels, load_taxonomy(), tokenizer, text_budget=384)
    learnt = [token for token in sequence.targets if token != IGNORED]
    assert tokenizer.decode(learnt, skip_special_tokens=False).startswith('{"category":"')
    assert learnt[-1] == tokenizer.token_to_id("<|im_end|>")
    assert learnt[-1] != tokenizer.token_to_id("<|endoftext|>")
    assert len(sequence.ids) == len(sequence.targets)


def test_a_noisy_message_keeps_its_frame_and_its_labels_and_loses_its_summary(tokenizer, examples: list[Example]) -> None:  # type: ignore[no-untyped-def]
    from training.examples import IGNORED, encode_example, labels_only, with_token_dropout
    from triage.automaton import TicketAutomaton

    automaton = TicketAutomaton(load_taxonomy(), tokenizer)
    whole = encode_example(examples[0], BILLING, load_taxonomy(), tokenizer, text_budget=384)
    noisy = with_token_dropout(whole, 1.0, 12_288, random.Random(0))
    prompt = whole.targets.count(IGNORED)
    assert noisy.ids[:3] == whole.ids[:3]
    assert noisy.ids[prompt - 5 :] == whole.ids[prompt - 5 :]
    assert sum(new != old for new, old in zip(noisy.ids, whole.ids, strict=True)) >= (prompt - 8) * 0.9
    assert min(noisy.ids[3 : prompt - 5]) >= 3
    cut = labels_only(whole, [int(token) for token in automaton.prefix_ids["summary"]])
    learnt = tokenizer.decode([token for token in cut.targets if token != IGNORED])
    assert learnt == '{"category":"billing","urgency":"medium","needs_human":true,"next_action":"check_billing","summary":"'


def test_padding_stands_behind_and_only_what_is_to_be_learnt_is_collected() -> None:
    from training.examples import IGNORED, TokenSequence, collect_targets, pad_ids

    batch = [TokenSequence([5, 6, 7], [IGNORED, 6, 7], {2: ((7, 8), (0.75, 0.25))}), TokenSequence([4, 5], [IGNORED, 5])]
    assert pad_ids(batch, pad=0).tolist() == [[5, 6, 7], [4, 5, 0]]
    rows, places, tokens, shares = collect_targets(batch)
    assert rows.tolist() == [0, 0, 1]
    assert places.tolist() == [0, 1, 0]
    assert tokens.tolist() == [[6, 0], [7, 8], [5, 0]]
    assert shares.tolist() == [[1, 0], [0.75, 0.25], [1, 0]]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run on eight tickets: fine-tuned long enough to know them."""
    from training.finetune import run
    from training.finetune_config import load_config

    folder = tmp_path_factory.mktemp("run")
    few = folder / "few.jsonl"
    few.write_text("".join(TRAIN.read_text(encoding="utf-8").splitlines(keepends=True)[:8]), encoding="utf-8")
    config = load_config({"epochs": 12, "batch_examples": 4, "noisy_share": 0.0, "varied_share": 0.0, "learning_rate": 6e-4, "average_decay": 0.0})
    metrics = run(BASE, few, few, folder / "out", config, load_taxonomy())
    assert metrics["dev_category"] >= 0.75
    return folder / "out"


def test_a_run_is_recorded_with_its_seed_and_digests(run_folder: Path) -> None:
    from triage.run import read_run_record

    record = read_run_record(run_folder)
    assert record.kind == "finetune"
    assert record.config["seed"] == 20261125
    assert record.inputs["taxonomy"] == load_taxonomy().digest
    assert "model.safetensors.index.json" in record.outputs or "model.safetensors" in record.outputs


def test_the_bundle_made_of_a_run_answers_its_own_training_tickets(run_folder: Path, tmp_path: Path, examples: list[Example]) -> None:
    from training.release_embedded import assemble
    from triage.answer import TicketAnswer
    from triage.engines.embedded import load_embedded_engine
    from triage.prompt import build_prompt

    assemble(run_folder, BASE, tmp_path / "bundle", "test-1")
    engine = load_embedded_engine(load_taxonomy(), tmp_path / "bundle")
    right = 0
    for example in examples:
        prompt = build_prompt(example, load_taxonomy(), text_budget=engine.text_budget, count_tokens=engine.count_tokens)
        answer = engine.answer_now(prompt, deadline_s=60)
        assert isinstance(answer, TicketAnswer)
        right += answer.ticket.category == example.labels.category
    assert right >= 6


def test_a_run_for_another_taxonomy_or_one_that_was_changed_makes_no_bundle(run_folder: Path, tmp_path: Path) -> None:
    from training.release_embedded import assemble
    from triage.errors import ReleaseError

    other = tmp_path / "other.toml"
    other.write_text((ROOT / "triage" / "taxonomy.toml").read_text(encoding="utf-8").replace('version = "1"', 'version = "2"'), encoding="utf-8")
    with pytest.raises(ReleaseError, match="was trained for the taxonomy"):
        assemble(run_folder, BASE, tmp_path / "bundle", "test-1", other)
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    (copy / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"not what its record says: config\.json"):
        assemble(copy, BASE, tmp_path / "bundle", "test-1")
    assert not (tmp_path / "bundle").exists()


def test_a_finished_run_is_not_written_over(run_folder: Path) -> None:
    from training.finetune import run
    from training.finetune_config import load_config

    with pytest.raises(RunError, match="already holds a finished run"):
        run(BASE, TRAIN, None, run_folder, load_config(), load_taxonomy())


def test_a_model_a_base_and_a_guard_that_do_not_belong_together_make_no_bundle(run_folder: Path, tmp_path: Path) -> None:
    from training.release_embedded import assemble
    from triage.errors import ReleaseError

    with pytest.raises(ReleaseError, match="did not start from the base"):
        assemble(run_folder, run_folder, tmp_path / "bundle", "test-1")
    with pytest.raises(RunError, match="one of finetune, not of a guard"):
        assemble(run_folder, BASE, tmp_path / "bundle", "test-1", guard=run_folder)
    with pytest.raises(RunError, match="not of fine-tuning"):
        assemble(BASE, BASE, tmp_path / "bundle", "test-1")
    assert not (tmp_path / "bundle").exists()


def test_an_unfinished_run_makes_no_bundle(tmp_path: Path) -> None:
    from training.release_embedded import assemble

    with pytest.raises(RunError, match="not a finished run"):
        assemble(tmp_path, BASE, tmp_path / "bundle", "test-1")
    assert not (tmp_path / "bundle").exists()


def test_the_int8_export_stays_close_to_the_model_it_came_from(tmp_path: Path) -> None:
    import onnxruntime
    from transformers import AutoModelForCausalLM

    from training.export_onnx import export

    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(0).integers(3, 12_288, (1, 24))
    with torch.no_grad():
        wanted = model(input_ids=torch.from_numpy(ids)).logits[0].numpy()
    shape = (model.config.num_hidden_layers, 2, 1, model.config.num_key_value_heads, 0, model.config.head_dim)
    first = _run(session, ids[:, :10], 0, np.zeros(shape, dtype=np.float32))
    second = _run(session, ids[:, 10:], 10, first[1])
    got = np.concatenate([first[0][0], second[0][0]])
    correlation = np.corrcoef(got.ravel(), wanted.ravel())[0, 1]
    assert correlation > 0.97, correlation


def _run(session, ids, start: int, past):  # type: ignore[no-untyped-def]
    count = ids.shape[1]
    mask = np.tri(count, start + count, start, dtype=np.bool_)
    places = np.arange(count)[None]
    return session.run(
        None,
        {"input_ids": ids, "position_ids": places + start, "mask": mask[None, None], "past": past, "select": places, "vocabulary": np.arange(12_288)},
    )
