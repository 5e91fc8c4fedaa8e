"""Keys that turn a row's meaning: marks of good and bad, weights, ratings.

A row that is marked as bad, or weighs nothing, shows what is not wanted: it is no demonstration.
Ratings are judged once all of a file's are known, since a number alone does not tell its scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ditto_hub.demos.importers.pairs import Notes, Row, is_absent

# A row is left out where one of these says no ...
GOOD = frozenset({
    "label", "labels", "kto_tag", "kto_label", "thumbs_up", "thumbsup", "thumb_up", "liked", "like",
    "good", "is_good", "accepted", "is_accepted", "approved", "is_approved", "desirable",
    "is_desirable", "chosen", "is_chosen", "preferred", "is_preferred", "selected", "is_selected",
    "correct", "is_correct", "helpful", "is_helpful", "upvoted", "acceptable", "is_acceptable",
    "feedback", "user_feedback", "human_feedback", "thumbs", "thumb", "verdict", "vote",
    "judgement", "judgment", "annotation", "train", "trainable", "training", "include", "keep",
    "use", "is_positive", "positive", "quality_ok",
})  # fmt: skip
# ... or one of these says yes.
BAD = frozenset({
    "rejected", "is_rejected", "thumbs_down", "thumbsdown", "thumb_down", "disliked", "dislike",
    "bad", "is_bad", "undesirable", "is_undesirable", "downvoted", "exclude", "excluded", "skip",
    "negative", "is_negative", "dispreferred", "unwanted", "is_unwanted",
})  # fmt: skip
WEIGHTS = frozenset({"weight", "loss_weight", "sample_weight", "loss"})
RATINGS = frozenset({
    "rating", "score", "stars", "grade", "reward", "quality", "quality_score", "human_rating",
    "user_rating", "overall_rating", "overall_score", "human_score", "preference_score",
    "helpfulness", "feedback_score",
})  # fmt: skip
MARKS = GOOD | BAD | WEIGHTS | RATINGS
YES = frozenset({
    "true", "t", "yes", "y", "1", "1.0", "+1", "good", "up", "thumbsup", "thumbup",
    "👍", "positive", "desirable", "chosen", "accepted", "accept", "approved", "like", "liked",
    "upvote", "upvoted",
    "correct", "preferred", "win", "better", "helpful", "great", "keep", "ok", "on",
})  # fmt: skip
NO = frozenset({
    "false", "f", "no", "n", "0", "0.0", "-1", "-1.0", "bad", "down", "thumbsdown", "thumbdown",
    "👎", "negative", "undesirable", "rejected", "reject", "disapproved", "dislike", "disliked",
    "downvote", "downvoted", "incorrect", "wrong", "dispreferred", "lose", "loss", "worse",
    "unhelpful", "poor", "terrible", "drop", "skip", "off",
})  # fmt: skip
INSIDE = ("rating", "value", "score", "label", "type", "thumbs", "vote", "sentiment")
SPACING = re.compile(r"[\s_]|(?<=\w)-")
SCALES = (1, 5, 10)
HIGHEST = 100


def verdict(value: Any) -> bool | None:
    """Return what a mark says: yes, no, or nothing that is known."""
    if isinstance(value, Mapping):
        inner = (verdict(value[key]) for key in INSIDE if key in value)
        return next((said for said in inner if said is not None), None)
    if isinstance(value, list) and len(value) == 1:
        return verdict(value[0])
    if isinstance(value, str):
        plain = SPACING.sub("", value[:40].casefold())
        return True if plain in YES else False if plain in NO else None
    number = number_of(value)
    return None if number not in (-1, 0, 1) else number == 1


def number_of(value: Any) -> float | None:
    """Return a number, one that is written as text too; None of anything else."""
    if isinstance(value, str):
        value = value.strip()[:40].partition("/")[0]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_bad(row: Mapping[str, Any], notes: Notes, besides: Iterable[str] = ()) -> bool:
    """Return whether a row's marks say that it is not wanted; note why, and its ratings.

    Args:
        besides: keys that hold texts of the demonstration and are no marks here.
    """
    texts = set(besides)
    for key in (key for key in row if key in MARKS and key not in texts):
        if is_absent(row[key]) or row[key] == "":
            continue
        said = _says_bad(key, row[key], notes)
        if said:
            notes.leave("files.left_marked", f"{key}: {_short(row[key])}")
            return True
    return _prefers_the_other(row, notes)


def _says_bad(key: str, value: Any, notes: Notes) -> bool:
    """Return whether a mark says no; one that says nothing known is named as ignored."""
    number = None if isinstance(value, bool) else number_of(value)
    if number is not None and key in WEIGHTS:
        if number > 0 and number != 1:
            notes.ignore(key)
        return number <= 0
    if number is not None and key in RATINGS:
        if number >= 0:
            notes.ratings[key] = _of_scale(value, number)
        return number < 0
    said = verdict(value)
    if said is None:
        notes.ignore(key)
        return False
    return said is (key in BAD)


def _of_scale(value: Any, number: float) -> float:
    """Return a rating such as "4/5" as a share of its scale, any other number as it is."""
    if isinstance(value, str) and "/" in value:
        most = number_of(value.partition("/")[2])
        return number / most if most else number
    return number


def _prefers_the_other(row: Mapping[str, Any], notes: Notes) -> bool:
    """Return whether the scores of a preference say that the rejected text is the better one."""
    if not PREFERENCE_SCORES & row.keys():
        return False
    for one, other in (
        ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"),
        ("chosen_rating", "rejected_rating"), ("rating_chosen", "rating_rejected"),
    ):  # fmt: skip
        mine, its = number_of(row.get(one)), number_of(row.get(other))
        if mine is not None and its is not None and mine < its:
            notes.leave("files.left_marked", f"{one} < {other}")
            return True
    return False


PREFERENCE_SCORES = frozenset({
    "score_chosen", "score_rejected", "chosen_score", "rejected_score", "chosen_rating",
    "rejected_rating", "rating_chosen", "rating_rejected",
})  # fmt: skip


def least_rating(ratings: Iterable[float]) -> float | None:
    """Return the rating below which a row is a bad example; None where the scale is not known.

    Args:
        ratings: all of one key in a file.
    """
    known = list(ratings)
    most = max(known, default=0.0)
    if min(known, default=0.0) < 0:
        return 0.0
    scale = next((scale for scale in SCALES if most <= scale), None)
    if scale is None:
        return HIGHEST / 2 if most == HIGHEST else None
    return (scale + 1) / 2 if scale > 1 else 0.5


def mark_keys(row: Row) -> set[str]:
    """Return the keys of a row that are marks; what they say is read or named elsewhere."""
    return {key for key in row if key in MARKS or key in PREFERENCE_SCORES}


def _short(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)[:30]
    return " ".join(text.split())
