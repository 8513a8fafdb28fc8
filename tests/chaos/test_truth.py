"""The judge of the chaos sees what is wrong with an answer: it is no use where everything passes."""

from __future__ import annotations

import pytest

from tests.chaos.families import ask_for
from tests.chaos.truth import Ask, Got, judge, text_of

ASK = Ask("r1", "onward", "m", "openai", sdk=False, stream=True, count=6, leaves_s=None)
LOCAL = Ask("r1", "onward-local", "m", "openai", sdk=False, stream=True, count=6, leaves_s=None)
TEXT = text_of("r1", 6)
WORDS = TEXT.split(" ")


@pytest.mark.parametrize(
    ("got", "worth"),
    [
        (Got(text=TEXT, ended=True), "right"),
        (Got(text=TEXT[:-1], ended=True), "short"),
        (Got(ended=True), "short"),
        (Got(text=TEXT), "short"),  # neither an end nor an error
        (Got(text=TEXT + " more", ended=True), "wrong"),
        (Got(text=" ".join([*WORDS[:2], *WORDS[1:]]), ended=True), "wrong"),
        (Got(text=" ".join([WORDS[1], WORDS[0], *WORDS[2:]]), ended=True), "wrong"),
        (Got(text=text_of("r2", 6), ended=True), "wrong"),
        (Got(text=TEXT[:20], told="in band"), "told"),
        (Got(text=text_of("r2", 6)[:20], told="in band"), "wrong"),
        (Got(text=TEXT, ended=True, told="the end is missing"), "told"),
        (Got(text=TEXT, ended=True, lost="an event after the end"), "lost"),
        (Got(text=TEXT[:20], lost="reset"), "lost"),
        (Got(text=TEXT[:20] + "x", lost="reset"), "wrong"),
        (Got(text=TEXT[:20], left=True), "left"),
        (Got(text=TEXT[:20] + " 1 2 3", ended=True, comments=[": continued-by local/demo"]), "wrong"),
    ],
)
def test_answers_are_judged(got: Got, worth: str) -> None:
    assert judge(ASK, got)[0] == worth


def test_only_where_a_local_model_may_go_on_is_its_own_text_right() -> None:
    went_on = Got(text=TEXT[:20] + " 1 2 3", ended=True, comments=[": continued-by local/demo"])
    assert judge(LOCAL, went_on)[0] == "right"
    assert judge(LOCAL, Got(text=went_on.text, ended=True))[0] == "wrong"
    assert judge(LOCAL, Got(text=LOCAL.local_text, ended=True, served_by="local/demo"))[0] == "right"


def test_a_seed_asks_the_same_each_time() -> None:
    assert [ask_for(7, number) for number in range(50)] == [ask_for(7, number) for number in range(50)]
    assert [ask_for(8, number) for number in range(50)] != [ask_for(7, number) for number in range(50)]
