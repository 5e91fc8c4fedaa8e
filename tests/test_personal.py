"""Personal data is pointed at where it stands, and little else is taken for it."""

from __future__ import annotations

import pytest

from ditto_hub.demos.personal_data import KINDS, find_personal


def kinds(text: str) -> list[str]:
    """Return the kinds found, in order."""
    return [found.kind for found in find_personal(text)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "ann@example.org"),
        ("email", "ann.b+lists@mail.example.co.uk"),
        ("email", "jürgen@beispiel.de"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "+1 (555) 010-9999"),
        ("phone", "+886 2 2345 6789"),
        ("phone", "+886912345678"),
        ("phone", "+86 138 0013 8000"),
        ("phone", "0049 30 1234567"),
        ("phone", "(555) 010-9999"),
        ("phone", "555-123-4567"),
        ("phone", "415.555.2671"),
        ("phone", "13800138000"),
        ("phone", "138-0013-8000"),
        ("phone", "010-12345678"),
        ("phone", "0912-345-678"),
        ("phone", "0912345678"),
        ("phone", "(02) 2345-6789"),
        ("phone", "02-2345-6789"),
        ("phone", "030 1234567"),
        ("phone", "0171/1234567"),
        ("phone", "06 12 34 56 78"),
        ("phone", "07700 900123"),
        ("phone", "03-1234-5678"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500005555555559"),
        ("card", "378282246310005"),
        ("id", "123-45-6789"),
        ("id", "11010519491231002X"),
        ("id", "A123456789"),
        ("id", "A123456(3)"),
        ("id", "AB 12 34 56 C"),
        ("id", "12345678Z"),
        ("ip", "81.2.69.142"),
        ("ip", "2a00:1450:4009:81f::200e"),
        ("link", "https://ann:secret@example.org"),
        ("link", "github.com/annexample"),
        ("link", "https://www.linkedin.com/in/ann-example-123"),
        ("address", "221B Baker Street"),
        ("address", "1600 Pennsylvania Ave"),
        ("address", "Hauptstraße 12"),
        ("address", "12 rue de la Paix"),
        ("address", "Calle Mayor 12"),
        ("address", "PO Box 1234"),
        ("address", "中山北路二段48巷7號"),
        ("address", "南京东路123号"),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "It is {}, as ever.", "他的是：{}。", "({})"])
def test_personal_data_is_found_where_it_stands(kind: str, value: str, frame: str) -> None:
    """Each kind is found, alone and inside a sentence, at its place."""
    text = frame.format(value)
    (found,) = find_personal(text)
    assert found.kind == kind
    assert value.strip("()+") in text[found.start - 1 if found.start else 0 : found.end + 1]


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-01-15 10:30",
        "2024-01-15T10:30:00",
        "15.01.2024 10:30",
        "01/15/2024",
        "20240115",
        "2019-2024",
        "from 1990 to 2000",
        "at 10:30:15",
        "3-4 pm",
        "12 345 678 EUR",
        "$1,234,567.89",
        "1 000 000",
        "1.000.000",
        "NT$ 12345678",
        "1234567 people",
        "version 1.2.3.4",
        "v10.15.7.12",
        "1.2.3",
        "torch 2.13.0",
        "192.168.1.1 and 127.0.0.1",
        "arXiv 2406.00888",
        "ISBN 978-3-16-148410-0",
        "order 123456789012",
        "订单 2024123456789",
        "0.123456789",
        "3.14159265358979",
        "1/2, 3/4 and 5/8",
        "page 12-345",
        "std::vector",
        "10:20:30:40",
        "4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01",
        "110105194912310021",
        "@ann",
        "a@b",
        "github.com",
        "see https://example.org/a/b?c=1",
        "I met 12 Good Men",
        "the 5 main streets",
        "他走了100号路",
        "1234567890123",
        "000-00-0000",
        "99999999",
        "#123456789",
        "",
        "👋🏽 שלום مرحبا",
    ],
)
def test_dates_prices_and_versions_are_left_alone(text: str) -> None:
    """What only looks like a number of somebody's is not pointed at."""
    assert kinds(text) == []


@pytest.mark.parametrize("text", ["Call me at 5551234", "Tel.: 2345 6789", "電話：2345-6789"])
def test_a_word_before_it_makes_a_short_number_a_phone(text: str) -> None:
    """Seven or eight digits are a phone number where the text says that they are."""
    assert kinds(text) == ["phone"]


def test_everything_in_a_letter_is_found_in_order() -> None:
    """Several kinds in one text come in its order, none twice."""
    text = "Ann, 12 Mill Lane. Mail ann@example.org or call +44 20 7946 0958; pay {}."
    assert kinds(text.format("DE89 3704 0044 0532 0130 00")) == [
        "address",
        "email",
        "phone",
        "iban",
    ]


@pytest.mark.parametrize(
    "text", ["1 " * 60_000, "a" * 200_000, "1." * 60_000, "路" * 100_000, "A1" * 60_000,
             "12 A B C D " * 10_000, "(+" * 50_000, ":" * 100_000, "On " * 50_000, "a@" * 60_000],
)  # fmt: skip
def test_hard_texts_are_looked_through(text: str) -> None:
    """A text made to be slow for patterns is looked through to its end."""
    assert all(found.end <= len(text) for found in find_personal(text))


def test_every_kind_has_words() -> None:
    """Each kind can be told to a person."""
    from ditto_hub.demos.personal_data import LOOKS

    assert {kind for kind, _, _ in LOOKS} == set(KINDS)
