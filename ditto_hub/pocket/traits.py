"""What a persona can be told by: independent traits, each with its options.

Every trait can be read off a text alone (`judge` does), in every text, and is chosen apart from
the others. The options in `BLAND` are the house style: what the model writes when nobody shows it
anything else.
"""

from __future__ import annotations

GREETINGS = (
    "Hi {a}",
    "Hello {a}",
    "Dear {a}",
    "Hey {a}",
    "Yo {a}",
    "Ahoy {a}",
    "Attention {a}",
    "Good day {a}",
    "Hi all",
    "Hey folks",
    "Hello everyone",
    "Howdy",
    "Greetings",
    "Salutations",
    "Good people",
)
SIGNOFFS = (
    "Best",
    "Regards",
    "Thanks",
    "Cheers",
    "Yours",
    "Warmly",
    "Take care",
    "So long",
    "Onward",
    "Over and out",
    "Later",
    "Ciao",
    "Stay curious",
    "In haste",
)
NAMES = (
    "Ada",
    "Bruno",
    "Clara",
    "Dmitri",
    "Esme",
    "Felix",
    "Gus",
    "Hana",
    "Ivo",
    "Jonas",
    "Kira",
    "Lena",
    "Mara",
    "Nico",
    "Otis",
    "Petra",
    "Quinn",
    "Rosa",
    "Sven",
    "Tess",
    "Ugo",
    "Vera",
    "Willa",
    "Yara",
)

# Trait -> its options. `{a}` stands for the audience; "none" for leaving the thing out.
TRAITS: dict[str, tuple[str, ...]] = {
    "greeting": GREETINGS,
    "greeting_mark": (",", "!", ":", " -", "..."),
    "opener": (
        "none",
        "quick one",
        "hope all is well",
        "big news",
        "short version",
        "heads up",
        "hear ye",
        "guess what",
        "a small thing",
        "coffee first",
    ),
    "register": ("plain", "formal", "breezy"),
    "order": ("news first", "ask first", "news last"),
    "layout": ("prose", "lines", "dashes", "numbers"),
    "spacing": ("airy", "tight"),
    "filler": ("none", "so", "well", "honestly", "anyway", "okay", "right", "look"),
    "asking": ("please", "kindly", "pls", "if you can", "be a star and", "make sure to"),
    "contraction": ("full", "short", "clipped"),
    "clock": ("6 pm", "6pm", "18:00", "6 o'clock"),
    "day": ("on Friday", "on Fri", "this Friday"),
    "casing": ("sentence", "lower"),
    "ender": (".", "!", "...", "!!", " ~", " //"),
    "emphasis": ("none", "DAY", "EVENT", "*event*"),
    "length": ("medium", "short", "long"),
    "emoji": ("none", ":)", ";)", ":D", "<3", "\U0001f389", "\U0001f331", "☕"),
    "thanks": (
        "none",
        "thanks a lot",
        "many thanks",
        "much appreciated",
        "thank you all",
        "you are the best",
        "grateful as ever",
    ),
    "signoff": SIGNOFFS,
    "signature": ("below", "beside", "dash"),
    "name": NAMES + tuple(name[0] for name in NAMES),
    "postscript": ("none", "PS:", "P.S.", "PS -", "One more thing:"),
}
BLAND: dict[str, str] = {trait: options[0] for trait, options in TRAITS.items()}

# Sentences of the body beside opener and thanks: the news, the meeting point, the ask, and more.
LENGTHS = {"short": 3, "medium": 4, "long": 5}
SIGNATURES = {"below": ",\n", "beside": ", ", "dash": " - "}
