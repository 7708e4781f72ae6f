"""What training and evaluation plant, list and tabulate: every answer stands in the text, held-out words stay out."""

from __future__ import annotations

import re
from random import Random

import pytest

from goldfinch.datasets.corpora import is_held_out_document
from goldfinch.datasets.definitions import definitions
from goldfinch.datasets.facts import NOT_STATED, FactMaker, harvest_names, is_held_out, plant
from goldfinch.datasets.lists import pairs_list, similar_facts
from goldfinch.datasets.tables import COLUMNS, table
from tests.conftest import SAMPLES


def test_lists_and_similar_facts_answer_their_questions() -> None:
    maker = FactMaker([f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)])
    for seed in range(60):
        rng = Random(seed)
        text, pairs = pairs_list(maker, rng, 40)
        assert len(pairs) == len({question for question, _ in pairs}) == 40
        assert all(value in text for _, value in pairs)
        facts = similar_facts(rng, 6)
        assert len({fact.statement for fact in facts}) == len({fact.subject for fact in facts}) == 6
        for fact in facts:
            assert all(value in fact.statement for _, value in fact.questions)
            assert "pass key" not in fact.statement  # the evaluation's needles stay unseen


SEPARATORS = ("|", ",", "\t", "  ")


@pytest.mark.parametrize("held_out", [False, True])
def test_tables_say_what_they_are_asked_for(held_out: bool) -> None:
    maker = FactMaker([f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)], fragments=["near the old"])
    separators = set()
    for seed in range(80):
        text, pairs = table(maker, Random(seed), 12, held_out=held_out)
        headings, *rows = [line for line in text.splitlines() if "---" not in line]
        separator = next(mark for mark in SEPARATORS if mark in headings)
        separators.add(separator)

        def cells(line: str, separator: str = separator) -> list[str]:
            parts = re.split(r" {2,}", line) if separator == "  " else line.strip("|").split(separator)
            return [part.strip() for part in parts]

        first = 1 if headings.strip("| ").startswith("No") and cells(headings)[0] == "No" else 0
        names = [name.lower() for name in cells(headings)[first:]]
        by_key = {cells(row)[first]: cells(row)[first:] for row in rows}
        names = names if separator != "  " or len(names) == len(cells(rows[0])) - first else ["", *names]
        assert len(by_key) == 12
        assert len(pairs) == 12 * (len(names) - 1)
        for question, answer in pairs:
            key = max((key for key in by_key if key.lower() in question.lower()), key=len)
            asked = question.lower().replace(key.lower(), "")
            values = [by_key[key][n] for n, name in enumerate(names) if n and re.search(rf"\b{name}\b", asked)]
            assert answer in values
            assert len(values) == 1 or " in which " in asked
    assert len(separators) == 4


def test_words_of_the_evaluation_stay_out_of_training() -> None:
    maker = FactMaker([f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)])
    unseen = {column.headings[-1] for column in COLUMNS}
    for seed in range(60):
        text, pairs = table(maker, Random(seed), 3)
        said = text.lower() + " ".join(question for question, _ in pairs).lower()
        assert not {word for word in unseen if re.search(rf"\b{word}\b", said)}
        assert not re.search("can you tell|according to the table|would like to know|listed as", said)
        seen = definitions(Random(seed), 6, ["near the old"]) + definitions(Random(seed), 6)
        for fact in seen:
            assert all(meaning in fact.statement for _, meaning in fact.questions)
            assert not re.search("basket for|catching rain|We use the word|denotes", fact.statement)
        for fact in definitions(Random(seed), 5, held_out=True):
            assert re.search("We use the word|denotes", fact.statement)
            assert all(meaning in fact.statement for _, meaning in fact.questions)
            assert not {question for question, _ in fact.questions} & {q for f in seen for q, _ in f.questions}


def test_facts_stand_in_the_document_and_answer_their_questions() -> None:
    text = (SAMPLES / "treasure-island-ch1-3.txt").read_text()
    maker = FactMaker(harvest_names([text], held_out=False))
    for seed in range(50):
        rng = Random(seed)
        facts = maker.facts(rng, 4)
        document = plant(rng, text[:1500], facts)
        without = document
        for fact in facts:
            assert fact.statement in document
            without = without.replace(fact.statement + " ", "", 1)
            for _, answer in fact.questions:
                words = answer.split()
                assert all(word.strip(",") in fact.statement for word in words if word != "a")
        assert without == text[:1500]
        question, answer = maker.absent_question(rng, facts)
        assert answer == NOT_STATED
        assert question not in document
        register, pairs = maker.register(rng, 5)
        assert len(pairs) >= 5
        assert all(value in register for _, value in pairs)


def test_phrasings_are_varied_and_leave_the_held_out_words_alone() -> None:
    maker = FactMaker(["Harwick", "Mersey"], fragments=["river", "near the old"])
    facts = [maker.attribute_fact(Random(seed)) for seed in range(400)]
    assert all(value in f.statement for f in facts for _, value in f.questions)
    shapes = {f.statement.replace(f.subject, "").replace(f.attribute or "", "") for f in facts}
    assert len(shapes) > 300
    seen = " ".join(f.statement + " " + f.questions[0][0] for f in facts)
    for phrase in (
        "stands at",
        "belonging to",
        "Records show",
        "Can you tell",
        "Which is the",
        "According to the document",
        "would like to know",
        "What's",
        "Please check",
        "The office lists",
        "still has",
        "On file for",
        "was issued to",
    ):
        assert phrase not in seen


def test_names_and_documents_are_split() -> None:
    text = (SAMPLES / "us-constitution.txt").read_text()
    seen, unseen = harvest_names([text], held_out=False), harvest_names([text], held_out=True)
    assert seen
    assert unseen
    assert not set(seen) & set(unseen)
    assert all(is_held_out(name) for name in unseen)
    share = sum(is_held_out_document(f"title {n}") for n in range(5000)) / 5000
    assert 0.01 < share < 0.03
