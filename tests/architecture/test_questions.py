"""The questions on which retrieval is measured can be answered from the documents as they are."""

import pytest

from bench.retrieval.questions import CORPUS, HALVES, ROOT, Question, all_questions, questions
from octarm.cli.ingest.chunking import chunks_of
from octarm.cli.ingest.folder import bytes_of, document_of, files_of


@pytest.mark.parametrize("half", HALVES)
def test_there_are_enough_of_them_about_many_documents(half: str) -> None:
    asked = questions(half)

    assert len({one.question for one in asked}) == len(asked) >= 60
    assert len({one.document for one in asked}) >= 20


def test_nothing_that_is_held_out_is_tuned_with() -> None:
    passages = {one.passage for one in questions("tuning")}

    assert not passages & {one.passage for one in questions("held_out")}


@pytest.mark.parametrize("one", all_questions(), ids=lambda one: one.question)
def test_the_document_still_holds_the_passage(one: Question) -> None:
    # Where this fails, a document was changed: look for what answers the question now.
    text = (ROOT / one.document).read_text(encoding="utf-8")

    start, end = one.span_in(text)

    assert text[start:end].split() == one.passage.split()


@pytest.mark.parametrize("one", all_questions(), ids=lambda one: one.question)
def test_the_question_is_not_a_copy_of_the_passage(one: Question) -> None:
    words = set(one.question.lower().split())

    assert len(words & set(one.passage.lower().split())) <= len(words) * 2 / 3


def test_nearly_every_passage_stands_whole_in_one_piece() -> None:
    documents = {
        f"{CORPUS}/{file.name}": document_of(file, bytes_of(file))
        for file in files_of(ROOT / CORPUS)
    }
    whole = 0
    for one in all_questions():
        start, end = one.span_in(documents[one.document].text)
        pieces = chunks_of(documents[one.document])
        whole += any(piece.start <= start and end <= piece.end for piece in pieces)

    assert whole >= 0.9 * len(all_questions())
