"""The judge of style, on small voices written here, in scripts with and without spaces."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from ditto_hub.errors import JudgeError
from ditto_hub.evaluation.judges import ScoringJudge
from ditto_hub.evaluation.stylometric import StylometricJudge

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import stylometric

# Each: a voice's demonstrations, a new text in that voice, and one on the same topic in another.
VOICES = {
    "English, loud": (
        [
            "hey folks!!! potluck is OFF this friday, kitchen's flooded... sorry!! xo, jo",
            "hey folks!!! printer's dead AGAIN, use the one by the lift... sigh!! xo, jo",
            "hey folks!!! movie night TONIGHT, bring snacks... yes!! xo, jo",
        ],
        "hey folks!!! seminar moved to MONDAY, same room... promise!! xo, jo",
        "Dear all,\n\nThe seminar has been moved to Monday. The room remains the same.\n\n"
        "Kind regards,\nJoanna",
    ),
    "English, formal": (
        [
            "Dear all,\n\nThe potluck on Friday is cancelled, as the kitchen is flooded.\n\n"
            "Kind regards,\nJoanna",
            "Dear all,\n\nThe printer is out of order. Please use the one near the lift.\n\n"
            "Kind regards,\nJoanna",
            "Dear all,\n\nThe film evening takes place tonight. Please bring snacks.\n\n"
            "Kind regards,\nJoanna",
        ],
        "Dear all,\n\nThe seminar has been moved to Monday. The room remains the same.\n\n"
        "Kind regards,\nJoanna",
        "hey folks!!! seminar moved to MONDAY, same room... promise!! xo, jo",
    ),
    "Chinese, casual": (
        [
            "哈喽大家～周五的聚餐取消啦，厨房漏水了哈哈，改天再约呀～",
            "哈喽大家～打印机又坏啦，先用电梯旁边那台吧哈哈，辛苦啦～",
            "哈喽大家～今晚看电影啦，记得带零食呀哈哈，不见不散～",
        ],
        "哈喽大家～研讨会改到周一啦，还是老地方哈哈，别走错呀～",
        "各位同事:您好。原定研讨会现调整至周一举行,地点不变。请知悉。此致,敬礼。",
    ),
    "Japanese, polite": (
        [
            "皆様、お疲れ様です。金曜日の懇親会は中止となりました。何卒よろしくお願いいたします。",
            "皆様、お疲れ様です。プリンターが故障しております。何卒よろしくお願いいたします。",
            "皆様、お疲れ様です。本日の映画会は予定通り行います。何卒よろしくお願いいたします。",
        ],
        "皆様、お疲れ様です。研究会は月曜日に変更となりました。何卒よろしくお願いいたします。",
        "みんな〜！研究会、月曜になったよ！部屋はいつものとこね！よろしく〜！！",
    ),
    "Thai, casual": (
        [
            "หวัดดีทุกคน งานเลี้ยงวันศุกร์ยกเลิกนะจ๊ะ ครัวน้ำท่วม 555",
            "หวัดดีทุกคน เครื่องพิมพ์เสียอีกแล้วนะจ๊ะ ใช้ตัวข้างลิฟต์ก่อน 555",
            "หวัดดีทุกคน คืนนี้ดูหนังกันนะจ๊ะ เอาขนมมาด้วย 555",
        ],
        "หวัดดีทุกคน สัมมนาย้ายไปวันจันทร์นะจ๊ะ ห้องเดิม 555",
        "เรียนทุกท่าน ขอแจ้งให้ทราบว่าการสัมมนาได้เลื่อนไปเป็นวันจันทร์ ขอแสดงความนับถือ",
    ),
    "Russian, curt": (
        ["Обед отменён. Кухня залита. А.", "Принтер сломан. Идите к лифту. А.", "Кино сегодня. А."],
        "Семинар в понедельник. А.",
        "Дорогие коллеги! Рада сообщить, что наш семинар перенесён на понедельник! Обнимаю, Анна",
    ),
}


@pytest.mark.parametrize("voice", VOICES)
def test_prefers_the_voice(voice: str) -> None:
    """A new text in the voice beats one on the same topic in another voice, in either order."""
    demos, own, other = VOICES[voice]
    judge = StylometricJudge(demos)
    assert judge.compare((), own, other) == "a"
    assert judge.compare((), other, own) == "b"


@pytest.mark.parametrize("voice", VOICES)
def test_the_voice_is_about_one_and_others_less(voice: str) -> None:
    """The score says how near a text is: about 1 for the author, well under it for another."""
    demos, own, other = VOICES[voice]
    judge = StylometricJudge(demos)
    assert judge.score((), own) > 0.6
    assert judge.score((), other) < 0.75 * judge.score((), own)


@pytest.mark.parametrize("voice", VOICES)
def test_another_language_is_far(voice: str) -> None:
    """A text in another script has less than a third of what the voice's own text has."""
    demos, own, _ = VOICES[voice]
    strange = VOICES["Russian, curt" if voice.startswith("English") else "English, formal"][1]
    judge = StylometricJudge(demos)
    assert judge.score((), strange) < judge.score((), own) / 3


@pytest.mark.parametrize("voice", VOICES)
def test_copying_a_demonstration_gains_little(voice: str) -> None:
    """A copy is marked by the demonstrations it does not copy, so it is no better than the rest."""
    demos, own, _ = VOICES[voice]
    judge = StylometricJudge(demos)
    assert judge.score((), demos[0]) < 1.5 * judge.score((), own)


def test_the_total_is_the_mean_of_the_views() -> None:
    """All four views weigh the same, in their geometric mean, which is the score."""
    demos, own, _ = VOICES["English, loud"]
    judge = StylometricJudge(demos)
    marks = judge.marks((), own)
    views = [marks[v] for v in ("words", "characters", "punctuation", "layout")]
    assert marks["total"] == pytest.approx(math.prod(views) ** 0.25)
    assert judge.score((), own) == marks["total"]


@pytest.mark.parametrize(
    ("view", "changed"),
    [
        ("words", "yo team!!! seminar moved to MONDAY, same room... promise!! later, bo"),
        ("punctuation", "hey folks. seminar moved to monday; same room. promise. xo jo"),
        ("layout", "hey folks!!! " + "seminar moved to MONDAY, same room... promise!! " * 6),
        ("characters", "greetings pals!!! symposium shifted to MONDAY, likewise... vow!! xx, bob"),
    ],
)
def test_each_view_sees_its_own(view: str, changed: str) -> None:
    """Changing the words, the signs, the length or the spelling lowers that view's mark."""
    demos, own, _ = VOICES["English, loud"]
    judge = StylometricJudge(demos)
    assert judge.marks((), changed)[view] < judge.marks((), own)[view]


@pytest.mark.parametrize("text", ["", " ", "\n", "🎉", "a", "x" * 20_000])
def test_odd_texts_have_finite_marks(text: str) -> None:
    """Empty, tiny and huge texts are marked, and below the voice's own."""
    demos, own, _ = VOICES["English, loud"]
    judge = StylometricJudge(demos)
    assert math.isfinite(judge.score((), text))
    assert judge.score((), text) < judge.score((), own)


@pytest.mark.parametrize("demos", [["one text"], ["same", "same"], ["", "one text"]])
def test_few_or_equal_demonstrations_do(demos: list[str]) -> None:
    """One demonstration, equal ones and blank ones still make a judge."""
    assert StylometricJudge(demos).compare((), demos[-1], "SOMETHING ELSE ENTIRELY!!!") == "a"


@pytest.mark.parametrize("demos", [[], ["", "  "]])
def test_no_demonstration_is_an_error(demos: list[str]) -> None:
    """Without a text to compare with there is no judge."""
    with pytest.raises(JudgeError, match="no demonstration"):
        StylometricJudge(demos)


def test_it_scores() -> None:
    """It can mark a single text."""
    assert isinstance(StylometricJudge(["text"]), ScoringJudge)


def test_the_benchmark_chooses_views_without_the_author_it_reports() -> None:
    """Two authors that want opposite views: each is reported under the other's choice."""
    words, layout = ("words",), ("layout",)
    right = dict.fromkeys(stylometric.SUBSETS, 0.0)
    asked = {"a": [{**right, words: 1.0}] * 3, "b": [{**right, layout: 1.0}]}
    assert stylometric.leave_one_out(asked) == {
        "right": 0.0, "chosen": {"a": "layout", "b": "words"},
    }  # fmt: skip
    assert stylometric.leave_one_out({"a": asked["a"], "c": asked["a"]})["right"] == 1
