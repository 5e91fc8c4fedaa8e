"""A stranger's script: everything that `import ditto_hub` offers, typed."""

from __future__ import annotations

import sys
from pathlib import Path

import ditto_hub
from ditto_hub import (
    Demonstration,
    DemoSet,
    DittoError,
    Evaluation,
    Event,
    Finding,
    PublishOptions,
    Receipt,
    Run,
    RunConfig,
    Voice,
)


def settings() -> RunConfig:
    """Return small settings."""
    config: RunConfig = ditto_hub.preset("pocket", seed=1)
    for text in ("warm_start.max_steps=2", "update.rounds=1", "update.steps=1", "update.pairs=4",
                 "sampling.samples=2", "sampling.max_new_tokens=12", "selection.samples=1",
                 "lora.rank=1", "selection.sft_long=false"):  # fmt: skip
        config = config.with_setting(text)
    return config


def demonstrations() -> DemoSet:
    """Return two demonstrations."""
    asked = ({"role": "user", "content": "Write to the lab."},)
    own = Demonstration("a", asked, "Hi all,\n\nsee you there!")
    return DemoSet((own, *DemoSet.from_pairs([("Write to the team.", "hey team,\nbring notes")])))


def without_prompts() -> DemoSet:
    """Return a demonstration whose prompt the base model writes."""
    text = (
        "Ahoy volunteers!\n\nIt's down for 13:00 in the attic!\nMake sure to bring a snack!\n"
        "Look, grab a spot for the game night on TUESDAY!\nGrateful as ever!\n\n"
        "Over and out - Sven"
    )
    return ditto_hub.prompts_for([text], "pocket")


def train(folder: Path) -> Run:
    """Train one run in steps, pause it, and train it to its end."""
    print([demo.prompt_by for demo in without_prompts()])
    findings: list[Finding] = ditto_hub.check(demonstrations())
    print(len(findings), "findings")
    seconds: float = ditto_hub.estimate(
        demonstrations(), "pocket", settings(), device="cpu-basic"
    ).total_seconds
    print(seconds > 0)
    last: Event | None = None
    for event in ditto_hub.stream(demonstrations(), "pocket", settings(), output=folder / "one"):
        last = event
        break
    print(last is not None)
    paused = Run.load(folder / "one")
    asked: list[str] = []
    for _ in ditto_hub.stream_resume(paused, should_stop=lambda: "".join(asked)):
        asked[:] = ["enough"]
    run: Run = ditto_hub.resume(paused)
    print(run.record.status)
    return run


def use(run: Run, repo_id: str, token: str, folder: Path) -> None:
    """Let it write, compare it, and publish it."""
    voice: Voice = ditto_hub.load(run)
    texts: list[str] = voice.generate("Write to the crew.", samples=1)
    print(len(texts))
    found: tuple[Evaluation, ...] = ditto_hub.evaluate(
        run, methods=["sft", "ditto"], prompts=["Write to the crew."], judges=["stylometric"],
        samples=1,
    )  # fmt: skip
    print([evaluation.complete for evaluation in found])
    for item in ditto_hub.stream_evaluate(
        run, methods=["sft", "ditto"], prompts=["Write to the crew."], judges=["stylometric"],
        samples=1,
    ):  # fmt: skip
        print(type(item).__name__)
    exported: Path = ditto_hub.export(run, folder / "gguf", form="gguf")
    print(sorted(path.name for path in exported.iterdir()))
    steps = ditto_hub.stream_publish(run, repo_id, PublishOptions(dry_run=folder / "dry"))
    print([step.code for step in steps])
    receipt: Receipt = ditto_hub.publish(run, repo_id, token=token)
    print(receipt.url, receipt.private)


def main(folder: Path, repo_id: str, token: str) -> None:
    """Do all of it."""
    try:
        use(train(folder), repo_id, token, folder)
    except DittoError as error:
        print(error.what, error.remedy)
        raise
    short: Run = ditto_hub.train(
        demonstrations(), config=settings(), output=folder / "two", owner=None
    )
    print(short.record.id, ditto_hub.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
