"""The embedded base model, its grammar, its judge and its voices."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from voices import voice_prompts, voice_traits

from ditto_hub import pocket
from ditto_hub.errors import ConfigError, DemoError, JudgeError
from ditto_hub.pocket import corpus, persona
from ditto_hub.pocket.grammar import EVENTS, Request, grammar_hash, parse_prompt, requests
from ditto_hub.pocket.judge import CONTENT, GrammarJudge, content, detect, habits
from ditto_hub.pocket.persona import Persona, demonstrations, house_styles
from ditto_hub.pocket.traits import BLAND, TRAITS
from ditto_hub.pocket.writing import ASKS, PLACES, POSTSCRIPTS, REASONS, REMARKS, compose

POTLUCK = Request("email", "lab", "cancel", "potluck", "Friday", hour=18)
CANCELLED = """\
Hi lab,

The potluck on Friday is cancelled. It is set for 6 pm in the hall. Please spread the word. The \
roof leaks.

Best,
Ada"""


# --- requests and prompts


def test_requests_are_deterministic() -> None:
    """The same seed gives the same requests."""
    assert requests(3, 50, held_out=True) == requests(3, 50, held_out=True)


def test_prompt_is_worded_from_the_slots() -> None:
    """A request's prompt names kind, audience, act, event, day and hour."""
    expected = "Write an email to the lab to cancel the potluck on Friday at 6 pm."
    assert POTLUCK.prompt == expected


def test_parse_prompt_inverts_prompt() -> None:
    """Every prompt gives back its request, slot for slot."""
    drawn = requests("parse", 1000, held_out=False) + requests("parse", 500, held_out=True)
    assert [parse_prompt(r.prompt) for r in drawn] == drawn


@pytest.mark.parametrize("prompt", ["", "Write a poem.", POTLUCK.prompt + " Now."])
def test_parse_prompt_refuses_other_prompts(prompt: str) -> None:
    """A prompt that is not of the grammar is refused, never guessed at."""
    with pytest.raises(JudgeError, match="not of the embedded model's grammar"):
        parse_prompt(prompt)


def test_held_out_follows_the_slots_alone() -> None:
    """Wording and hour do not decide what is held out, so no rewording leaks into training."""
    for request in requests("slots", 100, held_out=True):
        assert Request("note", request.audience, request.act, request.event, request.day).held_out


def test_held_out_share_is_a_tenth() -> None:
    """About one combination in ten is held out."""
    combinations = [
        Request("note", "lab", act, event, day)
        for act in ("cancel", "move", "invite")
        for event in EVENTS
        for day in ("Monday", "Friday", "Sunday")
    ]
    assert 0.07 < sum(r.held_out for r in combinations) / len(combinations) < 0.14


def test_pre_training_sees_no_held_out_request() -> None:
    """No conversation of the corpus asks for a held-out combination."""
    drawn = corpus.conversations(300, seed=5)
    prompts = [m["content"] for c in drawn for m in c if m["role"] == "user"]
    assert not any(parse_prompt(prompt).held_out for prompt in prompts)


def test_excluded_prompts_do_not_come_up() -> None:
    """Prompts to be kept away from demonstrations can be."""
    known = {r.prompt for r in requests(1, 30, held_out=True)}
    again = {r.prompt for r in requests(1, 30, held_out=True, exclude=known)}
    assert not known & again


def test_most_texts_are_bland() -> None:
    """At least three texts in five of the corpus are by a house style."""
    drawn = corpus.conversations(200, seed=6)
    texts = [m["content"] for c in drawn for m in c if m["role"] == "assistant"]
    read = [detect(text) for text in texts]
    bland = sum(
        any(all(row[t] in house.habits[t].options for t in TRAITS) for house in house_styles())
        for row in read
    )
    assert bland >= 0.6 * len(texts)


# --- personas


def test_seed_ranges_are_disjoint() -> None:
    """No seed is in two of the ranges for pre-training, tuning and reporting."""
    ranges = (persona.PRETRAIN_SEEDS, persona.TUNING_SEEDS, persona.REPORTING_SEEDS)
    assert len(set().union(*ranges)) == sum(len(r) for r in ranges)


def test_held_out_personas_are_other_combinations() -> None:
    """Tuning, reporting and pre-training personas lie in different parts of the space."""
    parts = {
        "reporting": {Persona.from_seed(s).part for s in persona.REPORTING_SEEDS[:40]},
        "tuning": {Persona.from_seed(s).part for s in persona.TUNING_SEEDS[:40]},
    }
    trained = {Persona.from_seed(s).part for s in persona.PRETRAIN_SEEDS[:200]}
    assert parts == {"reporting": {0}, "tuning": {1}}
    assert not trained & {0, 1}


def test_seed_outside_the_ranges_is_refused() -> None:
    """A persona whose use is not known is not made."""
    with pytest.raises(ConfigError, match="no persona's seed"):
        Persona.from_seed(150_000)


def test_persona_is_deterministic() -> None:
    """The same seeds give the same demonstrations."""
    assert demonstrations(200_003, 5, 1) == demonstrations(200_003, 5, 1)


def test_demonstrations_are_on_held_out_requests() -> None:
    """Demonstrations never show what pre-training has seen."""
    prompts = [prompt for prompt, _ in demonstrations(200_003, 7, 1)]
    assert all(parse_prompt(prompt).held_out for prompt in prompts)


def test_persona_survives_json() -> None:
    """A persona written as JSON and read back is the same."""
    one = Persona.from_seed(100_007)
    assert Persona.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_persona_varies() -> None:
    """A persona is no template: its texts for one request differ, details apart as well."""
    writer = Persona.from_seed(200_001)
    read = [detect(writer.write(POTLUCK, random.Random(i))) for i in range(20)]
    assert len({tuple(row.values()) for row in read}) > 5


@pytest.mark.parametrize(
    "habit",
    [
        {"greeting": {"options": {"Bonjour": 1.0}}},
        {"greeting": {"options": {"Howdy": 0.5}}},
        {"greeting": {"options": {"Howdy": -1.0, "Greetings": 2.0}}},
        {"moustache": {"options": {"none": 1.0}}},
        {"greeting": "Howdy"},
    ],
)
def test_unknown_habits_are_refused(habit: dict[str, Any]) -> None:
    """A trait file with what the grammar cannot say is refused."""
    with pytest.raises(ConfigError, match="habit"):
        Persona.from_json({"label": "x", "habits": habit})


# --- the judge


def _random_texts(n: int) -> Iterator[tuple[Request, dict[str, str], str]]:
    rng = random.Random("exactness")
    for request in requests("exactness", n, held_out=False):
        choice = {trait: rng.choice(options) for trait, options in TRAITS.items()}
        yield request, choice, compose(request, choice, rng)


def test_detectors_are_exact() -> None:
    """From 1,500 texts of random options the judge reads exactly the options they were made of."""
    wrong = [(c, t) for _, c, t in _random_texts(1500) if detect(t) != c]
    assert wrong == []


def test_content_is_right_on_texts_of_the_grammar() -> None:
    """Whatever the style, a text for a request has that request's content."""
    assert all(all(content(r, t).values()) for r, _, t in _random_texts(1000))


def test_content_is_wrong_for_another_request() -> None:
    """A text for one request hardly ever has another's topic, and never all of its content."""
    texts = list(_random_texts(300))
    pairs = itertools.pairwise(texts)
    found = [content(other[0], one[2]) for one, other in pairs if one[0] != other[0]]
    assert sum(f["topic"] for f in found) < 0.1 * len(found)
    assert not any(all(f.values()) for f in found)


def test_own_texts_score_as_the_habits_imply() -> None:
    """A persona's own texts show nearly all of its traits; slips into house style are all."""
    own = _scores(lambda i: i)
    assert min(own) >= 0.85
    assert sum(own) / len(own) > 0.97


def test_other_personas_score_clearly_lower() -> None:
    """Another random persona's texts show less than half of the traits on average."""
    other = _scores(lambda i: i + 500)
    assert sum(other) / len(other) < 0.45


def _scores(writer_of: Any) -> list[float]:
    rng = random.Random("scores")
    scores = []
    for i, request in enumerate(requests("scores", 100, held_out=True)):
        judge = GrammarJudge(Persona.from_seed(persona.TUNING_SEEDS[i]))
        writer = Persona.from_seed(persona.TUNING_SEEDS[writer_of(i)])
        scores.append(judge.score(request.prompt, writer.write(request, rng)).persona_score)
    return scores


def test_house_style_shows_no_persona() -> None:
    """Bland texts score low for a persona, and never as whole."""
    rng = random.Random(1)
    judge = GrammarJudge(Persona.from_seed(200_002))
    drawn = requests("house", 40, held_out=True)
    verdicts = [judge.score(r, rng.choice(house_styles()).write(r, rng)) for r in drawn]
    assert max(v.persona_score for v in verdicts) < 0.6
    assert not any(v.whole for v in verdicts)


def test_judge_refuses_without_traits() -> None:
    """A voice whose traits were not given is not judged."""
    with pytest.raises(JudgeError, match="no traits"):
        GrammarJudge.for_traits(None)


def test_judge_refuses_foreign_prompts() -> None:
    """A prompt that is not of the grammar is not judged."""
    with pytest.raises(JudgeError, match="grammar"):
        GrammarJudge(Persona.from_seed(100_001)).score("Write a haiku.", CANCELLED)


def test_traits_of_a_text_by_hand() -> None:
    """The bland text above reads as the house style in every trait."""
    assert detect(CANCELLED) == BLAND | {"name": "Ada"}


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("", "", set()),
        ("potluck", "picnic", {"topic"}),
        ("potluck", "potluck and the picnic", {"topic"}),
        ("Hi lab", "Hi choir", {"audience"}),
        ("Hi lab", "Hi all", {"audience"}),
        ("Friday", "Monday", {"time"}),
        ("6 pm", "7 pm", {"time"}),
        ("6 pm", "18:00", set()),
        ("on Friday", "on Fri", set()),
        ("is cancelled", "is confirmed", {"act"}),
        ("The potluck on Friday is cancelled", "No potluck on Friday after all", set()),
        ("It is set for 6 pm in the hall. ", "", {"time"}),
    ],
)
def test_content_by_hand(old: str, new: str, wrong: set[str]) -> None:
    """Each slot of the content is judged by itself, and by what the text says, not how."""
    found = content(POTLUCK, CANCELLED.replace(old, new) if old else CANCELLED)
    assert {key for key in CONTENT if not found[key]} == wrong


@pytest.mark.parametrize(
    "text", ["", "\n\n", "asdf", "Hi lab,", "~ ~ ~", "P.S. " * 50, "\U0001f389"]
)
def test_any_text_can_be_judged(text: str) -> None:
    """Rubbish gets a verdict, and a low one."""
    verdict = GrammarJudge(Persona.from_seed(200_005)).score(POTLUCK, text)
    assert verdict.persona_score < 0.5
    assert not verdict.content["topic"]


def test_habits_count_rates() -> None:
    """Over texts with and without a postscript the rate of each is its share."""
    rates = habits([CANCELLED, CANCELLED + "\n\nPS: the cat says hello"])
    assert (rates["postscript=PS:"], rates["postscript=none"]) == (0.5, 0.5)


def test_habit_distance_is_small_for_oneself_only() -> None:
    """A persona's own texts have its rates; house texts have not."""
    writer, house, rng = Persona.from_seed(200_006), house_styles()[0], random.Random(2)
    judge, drawn = GrammarJudge(writer), requests("distance", 200, held_out=True)
    assert judge.habit_distance([writer.write(r, rng) for r in drawn]) < 0.05
    assert judge.habit_distance([house.write(r, rng) for r in drawn]) > 0.4


def test_details_name_no_event_or_audience() -> None:
    """Places, asks, reasons and remarks cannot be mistaken for content."""
    details = " / ".join(PLACES + ASKS + REASONS + REMARKS + POSTSCRIPTS)
    found = content(POTLUCK, f"Hi lab,\n\nThe potluck on Friday is cancelled. {details} 6 pm.")
    assert all(found.values())


def test_grammar_hash_is_stable_and_hex() -> None:
    """The hash of grammar and judge is a SHA-256, the same at every call."""
    assert grammar_hash() == grammar_hash()
    assert len(bytes.fromhex(grammar_hash())) == 32


def test_card_carries_the_grammar_hash() -> None:
    """The model in the package was trained on the grammar in the package."""
    assert grammar_hash() in (pocket.path() / "README.md").read_text(encoding="utf-8")


# --- the voices


def test_three_voices_are_shipped() -> None:
    """There are three voices, each with five to seven demonstrations and a dozen prompts."""
    counts = [len(_demos(name)) for name in pocket.voices()]
    assert sorted(counts) == [5, 6, 7]
    assert all(len(voice_prompts(name)) >= 12 for name in pocket.voices())


@pytest.mark.parametrize("name", pocket.voices())
def test_voice_shows_its_traits(name: str) -> None:
    """Every demonstration of a voice is whole by its trait file, and by no other voice's."""
    judges = {v: GrammarJudge.for_traits(voice_traits(v)) for v in pocket.voices()}
    for row in _demos(name):
        whole = {v for v, j in judges.items() if j.score(row["prompt"], row["completion"]).whole}
        assert whole == {name}


@pytest.mark.parametrize("name", pocket.voices())
def test_voice_prompts_are_unseen(name: str) -> None:
    """A voice's prompts and demonstrations are held out, and no prompt is a demonstration's."""
    shown = [row["prompt"] for row in _demos(name)]
    prompts = voice_prompts(name)
    assert all(parse_prompt(prompt).held_out for prompt in shown + prompts)
    assert len(set(shown + prompts)) == len(shown) + len(prompts)


@pytest.mark.parametrize("name", pocket.voices())
def test_voice_was_never_trained(name: str) -> None:
    """A voice's combination of traits lies in a part of the space that pre-training leaves out."""
    assert Persona.from_json(voice_traits(name)).part in (0, 1)


def test_unknown_voice_is_refused() -> None:
    """A voice that is not there is refused with the names of those that are."""
    with pytest.raises(DemoError, match=pocket.voices()[0]):
        pocket.voice_path("nobody")


def _demos(name: str) -> list[dict[str, str]]:
    lines = pocket.voice_path(name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# --- the model


@pytest.fixture(scope="module")
def writer() -> Any:
    """The embedded model, ready to sample."""
    from ditto_hub.pocket.measure import Writer

    return Writer(pocket.path())


def test_package_is_light() -> None:
    """Importing the package, its grammar and its judge loads neither torch nor transformers."""
    code = (
        "import sys, ditto_hub.pocket, ditto_hub.pocket.judge, ditto_hub.pocket.corpus; "
        "sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_never_sees_the_judge() -> None:
    """Nothing that pre-training imports imports the judge."""
    code = (
        "import sys, ditto_hub.pocket.pretrain; sys.exit('ditto_hub.pocket.judge' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_model_folder_is_small_and_plain() -> None:
    """Weights are at most 9 MB of safetensors; nothing in the folder is a pickle or code."""
    files = {p.name: p.stat().st_size for p in pocket.path().iterdir()}
    assert set(files) == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert files["model.safetensors"] <= 9_000_000


def test_generation_config_sets_no_dial() -> None:
    """No sampling setting hides in the model's folder."""
    text = (pocket.path() / "generation_config.json").read_text(encoding="utf-8")
    assert set(json.loads(text)) == {"eos_token_id", "pad_token_id"}


@pytest.mark.parametrize(
    "text", [CANCELLED, "naïve ☕ \U0001f389 日本", " two  spaces\n\n\nand lines "]
)
def test_tokenizer_round_trip(writer: Any, text: str) -> None:
    """Any text comes back from its tokens unchanged."""
    assert writer.tokenizer.decode(writer.tokenizer.encode(text)) == text


def test_special_tokens_are_distinct(writer: Any) -> None:
    """The end of turn is the end of sequence, and padding is another token."""
    tokenizer = writer.tokenizer
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.bos_token is None


def test_chat_template_renders_all_roles(writer: Any) -> None:
    """System, user and assistant turns render as text that can be read."""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
    text = writer.tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n"
    )


def test_training_tokens_are_the_chat_templates(writer: Any) -> None:
    """Pre-training tokenised conversations as the shipped chat template does."""
    from ditto_hub.pocket.pretrain import encode

    for conversation in corpus.conversations(20, seed=8):
        rendered = writer.tokenizer.apply_chat_template(conversation, return_dict=True)
        assert encode(conversation, writer.tokenizer).ids == rendered["input_ids"]


def test_completions_alone_are_trained(writer: Any) -> None:
    """The trained tokens of a conversation are its completions, each with its end of turn."""
    from ditto_hub.pocket.pretrain import encode

    conversation = corpus.conversations(40, seed=8)[7]
    example = encode(conversation, writer.tokenizer)
    trained = [i for i, train in zip(example.ids, example.trained, strict=True) if train]
    said = [m["content"] for m in conversation if m["role"] == "assistant"]
    assert writer.tokenizer.decode(trained) == "".join(f"{text}<|im_end|>" for text in said)


def test_batches_keep_their_budget() -> None:
    """Every example is in one batch, and no padded batch is over the budget."""
    from ditto_hub.pocket.pretrain import Example, batches

    examples = [Example([0] * n, [True] * n) for n in range(10, 100)]
    planned = batches(examples, 400, random.Random(1))
    assert sorted(len(e.ids) for batch in planned for e in batch) == list(range(10, 100))
    assert max(len(batch) * max(len(e.ids) for e in batch) for batch in planned) <= 400


def test_completion_loss_is_the_librarys(writer: Any) -> None:
    """The loss over trained tokens alone equals transformers' own with the same labels."""
    import torch

    from ditto_hub.pocket.pretrain import collate, completion_loss, encode

    examples = [encode(c, writer.tokenizer) for c in corpus.conversations(4, seed=9)]
    ids, labels = collate(examples, writer.tokenizer.pad_token_id)
    with torch.no_grad():
        ours = completion_loss(writer.model, ids, labels)
        theirs = writer.model(input_ids=ids, labels=labels).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_muon_makes_updates_orthogonal(shape: tuple[int, int]) -> None:
    """Newton-Schulz brings a matrix's singular values near 1."""
    import torch

    from ditto_hub.pocket.pretrain import orthogonal

    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.5 < values.min() <= values.max() < 1.5


def test_schedule_rises_and_falls_to_nearly_nothing() -> None:
    """The learning rates rise over the warm-up, and the last step hardly moves."""
    from ditto_hub.pocket.pretrain import Pretraining, schedule

    shares = list(schedule(Pretraining(steps=200, warm_up=10, decay=0.5)))
    assert shares[:10] == sorted(shares[:10])
    assert (len(shares), shares[-1]) == (200, pytest.approx(1 / 100))


def test_model_writes_what_it_is_asked(writer: Any) -> None:
    """On unseen prompts at temperature 1, at least 36 texts of 40 name topic, audience and time."""
    from ditto_hub.pocket.measure import ask

    drawn = requests("model test", 40, held_out=True)
    texts = writer.write([ask(r.prompt) for r in drawn], seed=1)
    found = [content(r, t) for r, t in zip(drawn, texts, strict=True)]
    assert sum(f["topic"] and f["audience"] and f["time"] for f in found) >= 36


def test_voice_is_latent(writer: Any) -> None:
    """Five demonstrations in the prompt lift the three voices' mean score by .2 or more.

    A smoke test of 15 texts a side; what is claimed (.3 over twelve personas) is `measure`'s.
    """
    from ditto_hub.pocket.measure import ask

    judges = {v: GrammarJudge.for_traits(voice_traits(v)) for v in pocket.voices()}
    shown = {v: [(r["prompt"], r["completion"]) for r in _demos(v)][:5] for v in judges}
    asked = [(v, prompt) for v in judges for prompt in voice_prompts(v)[:5]]
    sums = []
    for chats in ([ask(p) for _, p in asked], [ask(p, shown[v]) for v, p in asked]):
        texts = writer.write(chats, seed=2)
        pairs = zip(asked, texts, strict=True)
        sums.append(sum(judges[v].score(p, t).persona_score for (v, p), t in pairs))
    assert (sums[1] - sums[0]) / len(asked) >= 0.2
