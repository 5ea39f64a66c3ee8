"""The tables of speed in the documents are those of the committed results."""

import sys

import pytest
from _documents import ROOT, name

sys.path.insert(0, str(ROOT / "tools"))
import tables


@pytest.mark.parametrize("document", tables.documents(), ids=name)
def test_a_table_is_what_its_results_say(document):
    text = document.read_text("utf-8")
    assert tables.written(text) == text, "make readme-tables writes it anew"


def test_every_table_stands_in_a_document():
    text = "".join(document.read_text("utf-8") for document in tables.documents())
    assert {found[1] for found in tables.MARKED.finditer(text)} == set(tables.TABLES)


def test_a_number_that_was_changed_by_hand_is_put_right():
    right = tables.written("<!-- table: training -->\n<!-- end of table -->")
    assert "| 330k |" in right
    assert tables.written(right.replace("330k", "331k")) == right


def test_a_racer_that_missed_its_target_is_told():
    rounds = [{"reached": True, "seconds": 2.0, "nats": 1.4}, {"reached": False, "seconds": 9.0, "nats": 1.6}]
    assert tables._raced(rounds) == "2 s, 1 of 2 rounds missed it"
    assert tables._raced(rounds[1:]) == "not reached: 1.600 after 9 s"
