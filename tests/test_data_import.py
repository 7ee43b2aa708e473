"""Sources in, candidates out: every format, every kind of bad row with its place, and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.importer import _Import, run_import
from data.mapping import Mapping, load_mapping
from data.readers import read_csv_rows, read_json_rows
from tests.conftest import BILLING, ROOT
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.taxonomy import Taxonomy

Write = Callable[..., Path]
SOURCE = {"name": "desk", "licence": "internal", "consent": "contract with the customer"}
LABELS = BILLING.model_dump()


def _mapping(**parts: object) -> Mapping:
    return Mapping.model_validate({"source": SOURCE} | parts)


def _import(file: Path, taxonomy: Taxonomy, **parts: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    out = file.with_name("out.jsonl")
    report = run_import(file, out, _mapping(**parts), taxonomy)
    accepted, rejected = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else [] for path in (out, report.rejected)
    )
    assert len(accepted) == report.counts.written
    assert len(rejected) == report.counts.rejected
    return accepted, rejected


def test_a_message_is_redacted_tagged_and_keeps_its_labels(write_lines: Write, taxonomy: Taxonomy) -> None:
    line = {"id": 7, "message": "Bonjour, ma facture est fausse depuis lundi, écrivez-moi : jo@example.org", "subject": "facture", "labels": LABELS}
    [candidate], rejected = _import(write_lines("in.jsonl", line), taxonomy)
    assert rejected == []
    assert candidate["id"] == "desk-7"
    assert candidate["message"] == "Bonjour, ma facture est fausse depuis lundi, écrivez-moi : [email]"
    assert (candidate["language"], candidate["provenance"], candidate["licence"]) == ("fr", "desk", "internal")
    assert candidate["labels"] == LABELS


def test_values_find_their_home_whatever_their_case_and_what_has_none_is_named(write_lines: Write, taxonomy: Taxonomy) -> None:
    rows = [
        {"text": f"message number {place}", "kind": kind, "extra": 1} for place, kind in enumerate(["Invoice", "INVOICE", "bug", "Toner", "skip"])
    ]
    source = write_lines("in.jsonl", *rows)
    parts = {"columns": {"message": "text", "category": "kind"}, "labels": {"category": {"invoice": "billing", "skip": ""}}}
    accepted, [rejected] = _import(source, taxonomy, **parts)
    assert [each["labels"]["category"] for each in accepted] == ["billing", "billing", "bug"]
    assert rejected == {"file": str(source), "line": 4, "reason": "category: 'Toner' has no home; give it one under [labels.category]"}
    report = json.loads(source.with_name("out.import.json").read_text())
    assert report["homeless"] == {"columns": {"extra": 5}, "values": {"category: 'Toner'": 1}}
    assert report["counts"]["skipped"] == {"category: 'skip' is left out by the mapping": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"{not json", "not JSON"),
        (b'{"id": "\xff"}', "not UTF-8: byte 8"),
        (b'["a"]', "not an object, but a list"),
        (b'{"message": "' + b"a" * 50_000_000 + b'"}', "longer than 4 MiB"),
        ({"message": " \n", "labels": LABELS}, "the message is empty"),
        ({"message": 4}, "message: not text, but a int"),
        ({"message": "a" * 300_000}, "longer than 256 Ki characters"),
        ({"message": "hello", "labels": {**LABELS, "category": "toner"}}, "category: 'toner' has no home"),
        ({"message": "hello", "split": "valid"}, "split: 'valid' is not one of train, dev"),
        ({"message": "hello", "thread": [{"from": "robot", "text": "x"}]}, r"thread.0.from: Input should be 'customer' or 'agent'"),
        (
            {"message": "hello", "id": "1", "labels": {**LABELS, "urgency": "low"}},
            "the id 'desk-1' was there before, with another text or other labels",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_place_and_its_neighbours_go_through(write_lines: Write, taxonomy: Taxonomy, row: object, reason: str) -> None:
    source = write_lines("in.jsonl", {"id": "1", "message": "hello", "labels": LABELS}, row, {"id": "3", "message": "good bye"})
    accepted, [rejected] = _import(source, taxonomy)
    assert [each["id"] for each in accepted] == ["desk-1", "desk-3"]
    assert (rejected["file"], rejected["line"]) == (str(source), 2)
    assert reason in rejected["reason"]


def test_what_is_marked_no_training_stays_out_and_a_repeated_row_comes_once(write_lines: Write, taxonomy: Taxonomy) -> None:
    row = {"id": "1", "message": "hello", "labels": LABELS}
    accepted, rejected = _import(write_lines("in.jsonl", row, row, {**row, "id": "2", "no_training": True}), taxonomy)
    assert [each["id"] for each in accepted] == ["desk-1"]
    assert rejected == []


def test_a_mapping_with_faults_names_each_and_the_nearest_word(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "map.toml"
    tables = ['[source]\nname = "a"\nlicence = "b"\nconsent = "c"', '[columns]\nmesage = "x"', '[labels.category]\nA = "biling"']
    path.write_text("\n".join([*tables, '[labels.kind]\nB = "c"', '[channels]\nZ = "fax"']))
    with pytest.raises(DatasetError) as caught:
        load_mapping(path, taxonomy)
    text = str(caught.value)
    for part in ("did you mean 'message'", "did you mean 'billing'", "labels.kind: no such label field", "'fax' is no channel"):
        assert part in text
    path.write_text("[source]\nname = 'a'\nnonsense = 1")
    with pytest.raises(DatasetError, match=r"source\.nonsense(.|\n)*"):
        load_mapping(path, taxonomy)


def test_csv_reads_quotes_line_ends_and_a_byte_order_mark_as_rfc_4180_says(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffid,text\r\n1,"two\r\nlines, and ""quotes"""\r\n2,plain\r\n'.encode())
    rows = list(read_csv_rows(path, delimiter=",", encoding="utf-8"))
    assert [(row.number, row.record) for row in rows] == [
        (2, {"id": "1", "text": 'two\r\nlines, and "quotes"'}),
        (4, {"id": "2", "text": "plain"}),
    ]


def test_a_ragged_csv_loses_only_its_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,ok\n2,too,many\n3\n4,"never closed\n5,ok\n\xff6,bad\n7,5" pipe\n8,ok\n')
    rows = list(read_csv_rows(path, delimiter=",", encoding="utf-8"))
    assert [row.record["id"] for row in rows if row.record] == ["1", "5", "8"]
    faults = {row.number: row.fault for row in rows if row.fault}
    assert sorted(faults) == [3, 4, 5, 7, 8]
    assert faults[3] == "3 fields where the header has 2"
    assert "quote" in faults[5]
    assert "not UTF-8" in faults[7]


def test_a_file_in_another_encoding_is_read_when_the_mapping_says_so(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id;message\n1;Grüße aus Köln\n".encode("cp1252"))
    assert next(iter(_import(path, taxonomy, encoding="cp1252", delimiter=";")[0]))["message"] == "Grüße aus Köln"
    path.write_text("id,text\n", encoding="utf-16")
    with pytest.raises(DatasetError, match="is UTF-16"):
        list(read_json_rows(path))


@pytest.mark.parametrize(("content", "fault"), [(b"", "no header"), (b"a,b,a\n1,2,3\n", "names 'a' more than once")])
def test_a_csv_without_a_usable_header_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=fault):
        list(read_csv_rows(path, delimiter=",", encoding="utf-8"))


def test_chat_records_become_messages_with_their_ticket(write_lines: Write, taxonomy: Taxonomy) -> None:
    turns = [
        ("system", "You triage."),
        ("user", "hi"),
        ("assistant", "Which order?"),
        ("user", "the blue one, charged twice"),
        ("assistant", json.dumps(LABELS)),
    ]
    good = {"messages": [{"role": role, "content": text} for role, text in turns]}
    bad = {"messages": good["messages"][:-1]}
    prose = {"messages": [*good["messages"][:-1], {"role": "assistant", "content": "billing"}]}
    [candidate], rejected = _import(write_lines("in.jsonl", good, bad, prose), taxonomy, format="chat")
    assert candidate["message"] == "the blue one, charged twice"
    assert candidate["thread"] == [{"from": "customer", "text": "hi"}, {"from": "agent", "text": "Which order?"}]
    assert candidate["labels"] == LABELS
    assert [each["reason"] for each in rejected] == [
        "`messages` does not end with a user's and then an assistant's",
        "the assistant's answer is no JSON object",
    ]


def test_label_studio_tasks_need_one_reading(tmp_path: Path, taxonomy: Taxonomy) -> None:
    def task(number: int, *choices: str, **extra: object) -> dict[str, object]:
        annotations = [{"result": [{"from_name": "category", "value": {"choices": [choice]}}], **extra} for choice in choices]
        return {"id": number, "data": {"text": f"message number {number}"}, "annotations": annotations}

    source = tmp_path / "export.json"
    source.write_text(json.dumps([task(1, "bug", "bug"), task(2, "bug", "billing"), task(3), task(4, "bug", was_cancelled=True)]))
    [candidate], rejected = _import(source, taxonomy, format="label_studio")
    assert (candidate["id"], candidate["labels"]) == ("desk-1", {"category": "bug"})
    assert [(each["item"], each["reason"]) for each in rejected] == [
        (2, "its annotations differ on 'category'; mark one as ground truth"),
        (3, "the task has no annotation"),
        (4, "the task has no annotation"),
    ]


def test_zendesk_comments_become_a_thread_and_custom_fields_can_be_mapped(tmp_path: Path, taxonomy: Taxonomy) -> None:
    comments = [
        {"author_id": 5, "plain_body": "It is broken", "public": True},
        {"author_id": 9, "plain_body": "Which part?", "public": True},
        {"author_id": 9, "plain_body": "customer seems upset", "public": False},
        {"author_id": 5, "html_body": "<p>The <b>lid</b></p><p>since May</p>", "public": True},
    ]
    ticket = {
        "id": 1,
        "subject": "lid",
        "requester_id": 5,
        "via": {"channel": "email"},
        "custom_fields": [{"id": 36, "value": "fault"}],
        "comments": comments,
    }
    source = tmp_path / "tickets.json"
    source.write_text(json.dumps({"tickets": [ticket, {"id": 2, "description": "hello", "requester_id": 5}], "count": 2}))
    parts = {"columns": {"category": "custom_fields.36"}, "labels": {"category": {"fault": "bug"}}}
    [first, second], _ = _import(source, taxonomy, format="zendesk", **parts)
    assert (first["message"], first["subject"], first["channel"]) == ("The lid\nsince May", "lid", "mail")
    assert first["thread"] == [{"from": "customer", "text": "It is broken"}, {"from": "agent", "text": "Which part?"}]
    assert first["labels"] == {"category": "bug"}
    assert first["group"] == second["group"] != "desk-1"


def test_zammad_webhook_bodies_lose_their_html_and_internal_notes(write_lines: Write, taxonomy: Taxonomy) -> None:
    article = {"body": "Parcel is <b>late</b><br>since Monday", "content_type": "text/html", "sender": "Customer", "type": "email"}
    body = {"ticket": {"id": 3, "title": "parcel", "customer_id": 8, "group": "shop"}, "article": article}
    several = {
        "id": 4,
        "title": "x",
        "customer_id": 8,
        "articles": [{**article, "body": "one"}, {"body": "secret", "internal": True, "sender": "Agent"}],
    }
    [first, second], _ = _import(write_lines("in.jsonl", body, several), taxonomy, format="zammad")
    assert (first["message"], first["subject"], first["channel"]) == ("Parcel is late\nsince Monday", "parcel", "mail")
    assert second["message"] == "one"
    assert "secret" not in json.dumps(second)


def test_corrections_bring_predicted_and_corrected_labels_together(write_lines: Write, taxonomy: Taxonomy) -> None:
    line = {
        "id": "tkt_1",
        "kind": "correction",
        "message": {"message": "hello there", "channel": "chat"},
        "predicted": LABELS,
        "corrected": {"urgency": "high"},
        "release": "embedded-1",
        "prompt_id": "abc",
        "taxonomy": taxonomy.digest,
    }
    rows = [
        line,
        {**line, "id": "tkt_2", "corrected": None},
        {**line, "id": "tkt_3", "taxonomy": "f" * 64},
        {**line, "id": "tkt_4", "corrected": {"mood": "x"}},
    ]
    [candidate], rejected = _import(write_lines("in.jsonl", *rows), taxonomy, format="feedback")
    assert candidate["labels"] == {**LABELS, "urgency": "high"}
    assert candidate["provenance"] == "service correction, release embedded-1, prompt abc"
    assert [each["line"] for each in rejected] == [2, 3, 4]
    assert "nobody has read it yet" in rejected[0]["reason"]
    assert "labelled in the taxonomy ffffffffffff" in rejected[1]["reason"]


def test_an_import_that_is_killed_goes_on_without_loss_or_doubles(tmp_path: Path) -> None:
    """kill -9 at a checkpoint, then the same command: the bytes of a run that nobody killed."""
    source = tmp_path / "in.jsonl"
    with source.open("w") as stream:
        for number in range(6_000):
            line = {
                "id": number,
                "message": f"message {number} from jo{number}@example.org",
                "labels": {"category": "bug" if number % 7 else "nonsense"},
            }
            stream.write(json.dumps(line) + "\n")
    words = [
        sys.executable,
        "-m",
        "triage",
        "data",
        "import",
        str(source),
        "--name",
        "desk",
        "--licence",
        "internal",
        "--consent",
        "contract",
        "--out",
    ]

    def run(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*words, str(out)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "100"}
        )

    whole, broken = tmp_path / "whole" / "out.jsonl", tmp_path / "broken" / "out.jsonl"
    assert run(whole).wait(timeout=120) == 3
    process = run(broken)
    progress = broken.with_name("out.jsonl.progress.json")
    for _ in range(6_000):
        if progress.exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert progress.exists()
    assert not broken.exists()
    assert run(broken).wait(timeout=120) == 3
    for name in ("out.jsonl", "out.rejected.jsonl", "out.import.json"):
        assert (whole.parent / name).read_bytes() == (broken.parent / name).read_bytes()
    assert sorted(path.name for path in broken.parent.iterdir()) == ["out.import.json", "out.jsonl", "out.rejected.jsonl"]


def test_an_import_that_is_done_does_nothing_and_another_source_is_refused(write_lines: Write, taxonomy: Taxonomy) -> None:
    source, out = write_lines("in.jsonl", {"message": "hello"}), write_lines("in.jsonl", {"message": "hello"}).with_name("out.jsonl")
    first, second = run_import(source, out, _mapping(), taxonomy), run_import(source, out, _mapping(), taxonomy)
    assert (first.is_old, second.is_old) == (False, True)
    with pytest.raises(DatasetError, match="is there already"):
        run_import(write_lines("other.jsonl", {"message": "good bye"}), out, _mapping(), taxonomy)


def test_an_empty_source_and_one_that_is_not_there_are_refused(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no row"):
        run_import(write_lines("in.jsonl"), tmp_path / "out.jsonl", _mapping(), taxonomy)
    with pytest.raises(DatasetError, match="not a file"):
        run_import(tmp_path / "none", tmp_path / "out.jsonl", _mapping(), taxonomy)


def test_every_mapping_in_the_repository_can_be_used(taxonomy: Taxonomy) -> None:
    paths = sorted((ROOT / "data" / "outside").glob("*.toml"))
    assert [path.stem for path in paths] == ["banking77", "clinc150"]
    assert len(load_mapping(paths[0], taxonomy).labels["category"]) == 77
    assert len(load_mapping(paths[1], taxonomy).labels["category"]) == 151


def test_a_run_killed_while_it_puts_its_files_in_place_ends_as_if_it_had_not_been(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    """Whatever of the renames was done when it was killed, the next run does the rest."""
    source = write_lines("in.jsonl", {"id": "1", "message": "hello"}, {"id": "2", "message": " "})
    whole = run_import(source, tmp_path / "whole" / "out.jsonl", _mapping(), taxonomy)
    wanted = {path.name: path.read_bytes() for path in whole.out.parent.iterdir()}
    for done in range(3):
        folder = tmp_path / f"killed{done}"
        run = _Import(source, folder / "out.jsonl", "jsonl", _mapping(), taxonomy, _identity(source, taxonomy))
        folder.mkdir()
        run._read_all()
        moves = [("out.rejected.jsonl.partial", "out.rejected.jsonl"), ("out.jsonl.partial", "out.jsonl")]
        for old, new in moves[:done]:
            (folder / old).rename(folder / new)
        report = run_import(source, folder / "out.jsonl", _mapping(), taxonomy)
        assert (report.is_old, report.counts.written, report.counts.rejected) == (False, 1, 1)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted


def _identity(source: Path, taxonomy: Taxonomy) -> dict[str, str]:
    return {"source": source.name, "sha256": file_digest(source), "format": "jsonl", "mapping": _mapping().digest, "taxonomy": taxonomy.digest}


def test_partial_files_that_were_removed_by_hand_are_begun_anew(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    source, out = write_lines("in.jsonl", *({"id": str(number), "message": f"hello {number}"} for number in range(5))), tmp_path / "out.jsonl"
    run = _Import(source, out, "jsonl", _mapping(), taxonomy, _identity(source, taxonomy))
    with run._partial.open("ab") as accepted, run._bad.open("ab") as rejected:
        for row in run._rows():
            run._take(row, accepted, rejected)
        run._checkpoint(accepted, rejected)
    run._partial.unlink()
    assert run_import(source, out, _mapping(), taxonomy).counts.written == 5
    assert len(out.read_text().splitlines()) == 5


def test_a_column_that_the_mapping_names_and_the_file_lacks_is_refused_or_reported(tmp_path: Path, write_lines: Write, taxonomy: Taxonomy) -> None:
    table = tmp_path / "a.csv"
    table.write_text("Body,From\nhello,a\n")
    with pytest.raises(DatasetError, match=r"has no such column: group = 'Form'; did you mean 'From'"):
        run_import(table, tmp_path / "out.jsonl", _mapping(columns={"message": "Body", "group": "Form"}), taxonomy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv"]
    report = run_import(
        write_lines("in.jsonl", {"text": "hi"}), tmp_path / "out.jsonl", _mapping(columns={"message": "text", "group": "who.id"}), taxonomy
    )
    assert report.counts.missing_columns == ["group = 'who.id'"]


def test_one_author_is_one_group_however_the_address_is_typed(write_lines: Write, taxonomy: Taxonomy) -> None:
    names = ["Anna@x.com", "anna@x.com ", " ANNA@X.COM", " "]
    accepted, _ = _import(
        write_lines("in.jsonl", *({"id": str(n), "message": f"hello {n}", "group": name} for n, name in enumerate(names))), taxonomy
    )
    groups = [each["group"] for each in accepted]
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == "desk-3"


def test_sources_that_share_a_name_for_groups_share_their_authors(write_lines: Write, taxonomy: Taxonomy) -> None:
    row = {"id": "1", "message": "hello", "group": "anna"}
    [first], _ = _import(write_lines("in.jsonl", row), taxonomy, source={**SOURCE, "groups": "shop"})
    other = write_lines("b.jsonl", row)
    report = run_import(other, other.with_name("b_out.jsonl"), _mapping(source={**SOURCE, "name": "crm", "groups": "shop"}), taxonomy)
    assert json.loads(report.out.read_text())["group"] == first["group"]


def test_ids_that_had_to_be_changed_stay_apart_and_tell_nobodys_address(write_lines: Write, taxonomy: Taxonomy) -> None:
    ids = ["<aaa.1@mail>", "<aaa 1@mail>", "Ä", "Ö", "jo.smith@example.org", "x" * 60 + "1", "x" * 60 + "2"]
    accepted, rejected = _import(write_lines("in.jsonl", *({"id": one, "message": f"hello {one}"} for one in ids)), taxonomy)
    assert rejected == []
    assert len({each["id"] for each in accepted}) == len(ids)
    assert not any("smith" in each["id"] for each in accepted)


def test_reports_quote_no_personal_data(write_lines: Write, taxonomy: Taxonomy) -> None:
    line = {"message": "hello", "labels": {"category": "write to jo.smith@example.org"}}
    source = write_lines("in.jsonl", line, {"message": "ok"})
    _, [rejected] = _import(source, taxonomy)
    assert "jo.smith" not in rejected["reason"] + source.with_name("out.import.json").read_text()
    assert "[email]" in rejected["reason"]


@pytest.mark.parametrize(("value", "is_kept"), [(False, True), ("false", True), ("0", True), ("no", True), ("TRUE", False), ("1", False)])
def test_no_training_is_read_as_people_write_it(write_lines: Write, taxonomy: Taxonomy, value: object, is_kept: bool) -> None:
    accepted, rejected = _import(write_lines("in.jsonl", {"message": "a", "no_training": value}, {"id": "x", "message": "b"}), taxonomy)
    assert (len(accepted), rejected) == (1 + is_kept, [])


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("zammad", {"id": 1, "articles": [{"body": "<![n hello", "content_type": "text/html", "sender": "Customer"}]}),
        ("zammad", {"id": 1, "articles": [{"body": "who wrote this"}]}),
        ("zendesk", {"id": 1, "requester": "anna", "comments": 4}),
        (
            "label_studio",
            {"id": 1, "data": {"text": "a"}, "annotations": [{"result": [{"from_name": "category", "value": {"choices": ["bug", "other"]}}]}]},
        ),
        ("chat", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "[" * 100_000}]}),
    ],
)
def test_an_export_of_an_odd_shape_costs_its_row_alone(write_lines: Write, taxonomy: Taxonomy, form: str, row: dict[str, object]) -> None:
    good = {
        "messages": [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": json.dumps(LABELS)}],
        "id": 2,
        "description": "hi there",
    }
    good |= {"articles": [{"body": "hi there", "sender_id": 2}], "data": {"text": "hi there"}, "annotations": [{"result": []}]}
    accepted, rejected = _import(write_lines("in.jsonl", row, good), taxonomy, format=form)
    assert [each["message"] for each in accepted] == ["hi there"]
    assert [each["line"] for each in rejected] == [1]


def test_an_agents_answer_never_becomes_the_message(write_lines: Write, taxonomy: Taxonomy) -> None:
    articles = [{"body": "where is it", "sender_id": 2}, {"body": "on its way", "sender_id": 1}]
    [candidate], _ = _import(write_lines("in.jsonl", {"id": 1, "title": "x", "group": "Shop", "articles": articles}), taxonomy, format="zammad")
    assert candidate["message"] == "where is it"


def test_spreadsheet_habits_are_understood(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"sep=;\r\nid;message;;\r\n1;hello;;\r\n;;;\r\n")
    assert [row.record for row in read_csv_rows(path, delimiter=",", encoding="utf-8")] == [{"id": "1", "message": "hello"}]
    path.write_bytes(b"id;message\n1;hello\n")
    with pytest.raises(DatasetError, match="the header is one column"):
        list(read_csv_rows(path, delimiter=",", encoding="utf-8"))
    tabs = tmp_path / "b.tsv"
    tabs.write_bytes(b"id\tmessage\n1\thello\n")
    assert _import(tabs, taxonomy)[0][0]["id"] == "desk-1"


def test_a_printed_export_and_one_on_a_line_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in (
        '{"tickets": [\n{"id": 1},\n{"id": 2}]}',
        '\n[{"id": 1}, {"id": 2}]',
        '{"tickets": [{"id": 1}, {"id": 2}], "count": 2}',
        '{"id": 1}\n{"id": 2}',
    ):
        path.write_text(text)
        assert [row.record for row in read_json_rows(path)] == [{"id": 1}, {"id": 2}], text
    path.write_text('{"id": 1, "data": ["x"]}')
    assert [row.record for row in read_json_rows(path)] == [{"id": 1, "data": ["x"]}]


def test_defaults_encodings_and_delimiters_that_cannot_be_are_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "map.toml"
    head = '[source]\nname = "a"\nlicence = "b"\nconsent = "c"\n'
    for table, fault in (
        ('[defaults]\ncategory = "biling"', "did you mean 'billing'"),
        ('[defaults]\nchannel = "telefax"', "'telefax' is no channel"),
    ):
        path.write_text(head + table)
        with pytest.raises(DatasetError, match=fault):
            load_mapping(path, taxonomy)
    for line, fault in (('encoding = "utf8x"', "no text encoding"), ('encoding = "hex"', "no text encoding"), ("delimiter = '\"'", "delimiter")):
        path.write_text(f"{line}\n{head}")
        with pytest.raises(DatasetError, match=fault):
            load_mapping(path, taxonomy)
