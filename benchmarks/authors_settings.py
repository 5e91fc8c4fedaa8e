"""The grid: each setting is the baseline `small` with a few changes, and says them in its row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from authors_teach import Teaching

from ditto_hub.config import RunConfig

PROMPTING = "prompting"  # trains nothing: zero-shot and few-shot
TEXTS = 4
SMALL = (
    "warm_start.learning_rate=2e-4",
    "warm_start.max_steps=20",
    "warm_start.stop=never",
    "sampling.samples=4",
    "sampling.length_factor=1.5",
    "update.rounds=2",
    "update.steps=8",
    "update.pairs=8",
    "update.learning_rate=5e-5",
    "update.beta=0.1",
    "update.sft_weight=1",
    "update.token_budget=8192",  # many processes on one GPU must not each take what is free
    "lora.targets=all-linear",
    "selection.held_out=0",
    "selection.samples=2",
)


@dataclass(frozen=True)
class Setting:
    """Hold what a job trains with.

    Args:
        name: of the setting, in rows and tables.
        changes: SECTION.FIELD=JSON texts, over `SMALL`.
        texts: demonstrations.
        distilled: texts of the prompted model that join them (authors_distil.py).
        teachings: students that are taught after the run, by name (authors_teach.py).
    """

    name: str
    changes: tuple[str, ...] = ()
    texts: int = TEXTS
    distilled: int = 0
    teachings: tuple[tuple[str, Teaching], ...] = ()

    @property
    def prompting(self) -> bool:
        """Whether nothing is trained."""
        return self.name.startswith(PROMPTING)

    def config(self, seed: int, cap: int) -> RunConfig:
        """Return the run's settings."""
        config = replace(RunConfig(), seed=seed)
        for text in (*SMALL, f"sampling.max_new_tokens={cap}", *self.changes):
            config = config.with_setting(text)
        return config


def _one_by_one() -> Iterator[Setting]:
    """Yield the baseline and its neighbours, the most telling first."""
    yield Setting(PROMPTING)
    yield Setting("small")
    yield Setting("paper", PAPER)
    for count in (8, 16):
        yield Setting(f"distil-{count}", distilled=count)
        gentle = ("warm_start.max_steps=30", "warm_start.learning_rate=1e-4")
        yield Setting(f"distil-{count}-gentle", gentle, distilled=count)
    for name, path, values in DIALS:
        for value in values:
            short = "mlp" if value.startswith("gate") else value
            with_alpha = (f"lora.alpha={2 * int(value)}",) if name == "rank" else ()
            yield Setting(f"{name}-{short}", (f"{path}={value}", *with_alpha))
    yield Setting("student", (*STUDENT, *WARM_START_ALONE))
    yield Setting("student-ditto", STUDENT)
    yield Setting("taught-a", teachings=TAUGHT_A)
    yield Setting("taught-b", teachings=TAUGHT_B)
    yield Setting("prompting-taught", teachings=TAUGHT_C)
    yield Setting("prompting-base", teachings=TAUGHT_C[1:])
    for name, teaching in (*TAUGHT_A, *TAUGHT_B):
        yield Setting(f"taught-{name}", teachings=((name, teaching),))
    yield Setting("prompting-6", texts=6)
    yield Setting("texts-6", texts=6)


MLP = "gate_proj,up_proj,down_proj"
DIALS = (  # the most telling first
    ("warm", "warm_start.learning_rate", ("1e-4", "5e-4")),
    ("update", "update.learning_rate", ("2e-5", "2e-4")),
    ("nll", "update.sft_weight", ("0", "0.2")),
    ("targets", "lora.targets", ("attention", MLP)),
    ("rank", "lora.rank", ("4",)),
    ("beta", "update.beta", ("0.02", "0.3")),
    ("rounds", "update.rounds", ("1", "4")),
    ("warm-steps", "warm_start.max_steps", ("10", "40")),
    ("samples", "sampling.samples", ("2", "10")),
    ("pairs", "update.pairs", ("4", "24")),
    ("steps", "update.steps", ("4", "16")),
    ("dropout", "lora.dropout", ("0.1", "0.3")),
    ("warm", "warm_start.learning_rate", ("5e-5", "1e-3")),
    ("update", "update.learning_rate", ("1e-5", "1e-4")),
    ("nll", "update.sft_weight", ("5",)),
    ("beta", "update.beta", ("0.05",)),
    ("rank", "lora.rank", ("8", "32")),
)
# The paper's own numbers on this adapter's shape; its samples and pairs, its rates.
PAPER = (
    "warm_start.learning_rate=3e-5",
    "warm_start.max_steps=30",
    "sampling.samples=10",
    "update.rounds=4",
    "update.steps=10",
    "update.pairs=24",
    "update.learning_rate=1e-6",
    "update.beta=0.05",
    "update.sft_weight=0",
    "lora.targets=attention",
)
# The warm start as the student of the prompted model, with `Teaching`'s own numbers.
STUDENT = (
    "warm_start.objective=distillation",
    "warm_start.prompts=16",
    "warm_start.draws=2",
    "warm_start.max_steps=60",
    "warm_start.batch_size=8",
    "warm_start.learning_rate=5e-4",
    "warm_start.warmup_ratio=0",
)
WARM_START_ALONE = (
    "update.rounds=1",
    "update.steps=1",
    "sampling.samples=1",
    "selection.sft_long=false",
)
LAST, LONG = "round-2", "sft-long"
TAUGHT_A = (
    ("base", Teaching()),
    ("base-own", Teaching(own=0.5, repeats=2)),
    ("self", Teaching(LAST, LAST)),
    ("self-own", Teaching(LAST, LAST, own=0.5, repeats=2)),
    ("base-more", Teaching(prompts=48, steps=180)),
)
TAUGHT_B = (
    ("long", Teaching(LONG, LONG)),
    ("self-more", Teaching(LAST, LAST, prompts=48, steps=180)),
    ("base-to-last", Teaching("", LAST)),
    ("self-anew", Teaching(LAST, LAST, redraw=20)),
    ("self-hot", Teaching(LAST, LAST, rate=1e-3)),
)
TAUGHT_C = (  # the run itself trains nothing, so prompting is judged beside them
    ("base-own-more", Teaching(prompts=48, steps=180, own=0.5, repeats=4)),
    ("base", Teaching()),
)
SETTINGS = {setting.name: setting for setting in _one_by_one()}
