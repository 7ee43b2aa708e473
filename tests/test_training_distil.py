"""The stage after pretraining: its losses by hand, its noise, and a whole small run against a teacher made on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from tests.conftest import ROOT
from training.embedded_base.corpus import MIXTURE
from training.embedded_base.distil import distil_loss, load_config, run
from training.embedded_base.texts import collect_texts, make_noisy
from training.examples import encode_as_message
from triage.engines.chatml import render_chatml
from triage.prompt import ChatMessage, Prompt
from triage.run import read_run_record

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]
BASE = ROOT / "training" / "embedded_base" / "model"


def test_the_loss_is_nothing_for_a_student_that_equals_its_teacher_and_grows_with_the_angle() -> None:
    config = load_config()
    teacher = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    assert float(distil_loss(teacher * 3, teacher, config)) == pytest.approx(0, abs=1e-5)
    only_cosine = config.model_copy(update={"neighbour_weight": 0.0})
    assert float(distil_loss(-teacher, teacher, only_cosine)) == pytest.approx(2, abs=1e-5)
    # turned as a whole, every angle to the teacher changes and no angle between the texts does
    turned = teacher @ torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2)))[0]
    assert float(distil_loss(turned, teacher, config.model_copy(update={"cosine_weight": 0.0}))) == pytest.approx(0, abs=1e-4)


def test_a_noisy_text_is_another_spelling_of_the_same_words() -> None:
    text = "The invoice for March shows the wrong amount, please correct it."
    draw = random.Random(3)
    noisy = [make_noisy(text, 0.3, draw) for _ in range(20)]
    assert len(set(noisy)) > 15
    assert all(len(each.split()) == len(text.split()) for each in noisy)
    assert make_noisy("ok", 1.0, random.Random(1)).lower() == "ok"


def test_a_text_is_read_as_serving_sends_it() -> None:
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    [row] = encode_as_message(["where is my parcel"], tokenizer, 160)
    expected = render_chatml(Prompt((ChatMessage("user", "where is my parcel"),)))
    assert row == tokenizer.encode(expected, add_special_tokens=False).ids
    [cut] = encode_as_message(["parcel " * 300], tokenizer, 20)
    assert len(cut) < 40


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    root = tmp_path / "text"
    for source in MIXTURE:
        folder = root / source
        folder.mkdir(parents=True)
        lines = [{"text": f"{source}-says {number}-of {source}-parcels came-{source} late-{source}"} for number in range(40)]
        if source == "classic_books":
            lines = [{"text": " ".join(f"It was a dark night number {number}, and nobody came to the door." for number in range(120))}]
        (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return root


def test_texts_are_distinct_and_hold_nothing_near_a_protected_message(texts: Path) -> None:
    found = collect_texts(texts, ["gitbugs-says 7-of gitbugs-parcels came-gitbugs late-gitbugs"], 10, seed=1)
    assert len(set(found)) == len(found)
    assert any(text.startswith("banking77") for text in found)
    assert not any(text.startswith("gitbugs-says 7-") for text in found)
    assert sum(text.startswith("It was a dark night") for text in found) == 10


def test_a_small_run_learns_from_its_teacher_and_records_what_it_was_made_of(texts: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = tmp_path / "teacher"
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    shape = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(shape).save_pretrained(teacher)
    tokenizer.save(str(teacher / "tokenizer.json"))
    changes: dict[str, object] = {
        "seconds": 240.0,
        "most_steps": 40,
        "batch_tokens": 1024,
        "language_windows": 1,
        "sequence_length": 48,
        "book_sentences": 60,
        "learning_rate": 1e-3,
    }
    metrics = run(texts, BASE, tmp_path / "out", teacher, load_config(changes))
    assert metrics["steps"] == 40
    assert metrics["held_out_cosine"] > 0.5
    record = read_run_record(tmp_path / "out")
    assert record.kind == "distil"
    assert {"base", "teacher", "banking77/a.jsonl"} <= set(record.inputs)
