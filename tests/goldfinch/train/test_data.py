"""Training sequences: what the tasks make, and how it is packed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from goldfinch.datasets.articles import wrap
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.errors import GoldFinchError
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.train.data import TASKS, WIDTHS, TrainingData
from goldfinch.train.recipe import Recipe, Stage
from goldfinch.train.trainer import TEMPLATE


def test_no_answer_is_taught_that_was_cut_off(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    data = TrainingData(corpora, recipe, tokenizer, TEMPLATE)
    document = "The gate is green. " + "Nothing happened. " * 60 + "The roof is\nblue slate."
    questions = [("Gate?", "green"), ("Roof?", "blue slate"), ("Mood?", "calm"), ("Owner?", NOT_STATED)]
    ids, _ = data._pack(Random(0), document, questions, 400)
    text = tokenizer.decode(ids)
    assert len(ids) == 401
    assert "Gate?" in text
    assert "Roof?" not in text  # its answer stood in the part that was cut
    assert "Mood?" in text  # answered in other words than the document's
    assert "Owner?" in text
    whole = tokenizer.decode(data._pack(Random(0), document, questions, 2000)[0])
    assert "Roof?" in whole


def test_packed_sequences_have_no_room_left(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    shares = {}
    for packed in (False, True):
        data = TrainingData(corpora, replace(recipe, packed=packed), tokenizer, TEMPLATE)
        ids, _ = data._pack(Random(0), "A short text.", [("Long?", "no")], 300)
        _, weights = data._pack(Random(0), "A short text.", [("Long?", "no")], 300)
        assert len(ids) == len(weights) == 301
        assert all(weights[n] == 0 for n, token in enumerate(ids) if n and token == TEMPLATE.bos_token_id)
        shares[packed] = sum(weight == 0 for weight in weights) / 301
    assert shares[False] > 0.5
    assert shares[True] < 0.1


def test_invented_words_are_explained_in_the_text(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    data = TrainingData(corpora, recipe, read_tokenizer(tiny_tokenizer), TEMPLATE)
    document, questions = TASKS["definitions"](data, Random(3), Stage(10**6, 1000, 1, {}, (3, 6)))
    assert 3 <= len(questions) <= 5
    assert all(answer in document for _, answer in questions)


def test_paragraphs_beside_one_another_are_not_asked_for_what_one_does_not_say(
    recipe: Recipe, corpora: Path, tiny_tokenizer: Path
) -> None:
    data = TrainingData(corpora, recipe, read_tokenizer(tiny_tokenizer), TEMPLATE)
    seen = {True: 0, False: 0}
    for seed in range(60):
        text, questions = TASKS["qa"](data, Random(seed), Stage(10**6, 2400, 1, {}))
        alone = any(text == passage.text for passage in data.passages)
        seen[alone] += any(answer == NOT_STATED for _, answer in questions)
    assert seen[True] > 0
    assert seen[False] == 0


def test_lines_are_broken_where_the_recipe_says_so(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    """Between words, at one width per document; without it the batches stay what they were."""
    text = "One two three four-five.\nsix " + "x" * 30 + " seven"
    assert wrap(text, 12) == "One two\nthree\nfour-five.\nsix\n" + "x" * 30 + "\nseven"
    tokenizer = read_tokenizer(tiny_tokenizer)
    recipe = replace(recipe, stages=(Stage(10**6, 400, 4, {"text": 1.0}),))
    longest = {}
    for share in (0.0, 1.0):
        data = TrainingData(corpora, replace(recipe, wrapped=share), tokenizer, TEMPLATE)
        rows = [row.tolist() for step in range(6) for row in data.batch(step)[0]]
        longest[share] = max(len(line) for row in rows for line in tokenizer.decode(row).split("\n"))
    assert longest[1.0] <= WIDTHS[1] < longest[0.0]


def test_articles_are_read_in_their_order_with_questions_from_all_paragraphs(
    recipe: Recipe, corpora: Path, tiny_tokenizer: Path
) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    recipe = replace(recipe, stages=(Stage(10**6, 2400, 1, {"article": 1.0}),))
    data = TrainingData(corpora, recipe, tokenizer, TEMPLATE)
    texts = [tokenizer.decode(data.batch(step)[0][0].tolist()) for step in range(4)]
    assert all("Josiah Pellow" in text and "Abel Hartnoll" in text for text in texts)
    assert all("Who built it?" in text and "Who kept bees?" in text for text in texts)
    first, second = data.articles[0]
    assert (first.questions[0][0], second.questions[0][0]) == ("Who kept bees?", "Who built it?")
    _, _, weights = data.batch(0)
    assert (weights == recipe.answer_weight).any()


def test_articles_are_asked_for_what_stands_in_paragraphs_left_out(
    recipe: Recipe, corpora: Path, tiny_tokenizer: Path
) -> None:
    elsewhere = {"Who kept bees?": "Who built it?", "Who built it?": "Who kept bees?"}
    for share in (0.0, 1.0):
        stage = Stage(10**6, 800, 1, {"article": 1.0})  # room for one paragraph
        changed = replace(recipe, stages=(stage,), absent_questions=share)
        data = TrainingData(corpora, changed, read_tokenizer(tiny_tokenizer), TEMPLATE)
        for seed in range(8):
            text, questions = TASKS["article"](data, Random(seed), stage)
            own = "Who built it?" if "Josiah Pellow" in text else "Who kept bees?"
            answer = "Josiah Pellow" if own == "Who built it?" else "Abel Hartnoll"
            assert questions == ([(elsewhere[own], NOT_STATED)] if share else [(own, answer)])


def test_batches(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    data = TrainingData(corpora, recipe, tokenizer, TEMPLATE)
    for step in range(8):
        ids, targets, weights = data.batch(step)
        length = recipe.stage_of(step).sequence
        assert ids.shape == targets.shape == weights.shape == (2, length)
        assert torch.equal(ids[:, 1:], targets[:, :-1])
        again = data.batch(step)
        assert all(torch.equal(a, b) for a, b in zip((ids, targets, weights), again, strict=True))
        # Every answer is preceded by the template's words and ended by the end token.
        for row_targets, row_weights in zip(targets, weights, strict=True):
            answer = [int(t) for t, w in zip(row_targets, row_weights, strict=True) if w == recipe.answer_weight]
            if answer:
                assert answer[-1] == TEMPLATE.end_token_id
    assert not torch.equal(data.batch(0)[0], data.batch(1)[0])
    bad = replace(recipe, stages=(Stage(100, 10, 1, {"riddles": 1.0}),))
    with pytest.raises(GoldFinchError, match="unknown task"):
        TrainingData(corpora, bad, tokenizer, TEMPLATE)
