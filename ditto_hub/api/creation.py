"""From demonstrations to a run folder: reading and checking them, making the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ditto_hub import pocket
from ditto_hub.api.base_models import choose_smollm2, recorded
from ditto_hub.config import RunConfig, preset
from ditto_hub.cost.presets import preset_name
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.example_texts import example_text_path
from ditto_hub.demos.findings import Finding, require_usable
from ditto_hub.demos.findings import check as findings_of
from ditto_hub.demos.importers import load_demos
from ditto_hub.demos.prompting import require_teachable
from ditto_hub.errors import DemoError
from ditto_hub.pocket.language import speaks
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import is_folder
from ditto_hub.tokens import MACHINE, NOBODY, Token
from ditto_hub.words import Message, Text


def read_demos(source: str | Path) -> DemoSet:
    """Read demonstrations from a file, or a set shipped in the package as "example:NAME".

    Raises:
        DemoError: the file or the set is missing or unusable.
    """
    return load_demos(_demo_path(source))


def check_demos(
    source: str | Path | DemoSet, base_model: str | None = None, *, token: Token | str = NOBODY
) -> tuple[DemoSet, list[Finding]]:
    """Return demonstrations and what is wrong or could be better with them.

    Args:
        source: file, "example:NAME", or the demonstrations.
        base_model: counts lengths in its tokens where given.
        token: of the Hub, to read a private or gated base model.

    Raises:
        DemoError: nothing could be read.
        BaseModelError, ChatTemplateError: the base model cannot be used.
        HubError: the Hub cannot be asked for it.
    """
    demos = source if isinstance(source, DemoSet) else read_demos(source)
    read = [Finding("warning", "file", notice) for notice in demos.notices]
    if base_model is None:
        return demos, _errors_first([*findings_of(demos), *read])
    outside = outside_pocket(demos) if base_model == "pocket" else []
    from ditto_hub.engine.base_fit import findings as misfits
    from ditto_hub.engine.base_model import load_format
    from ditto_hub.engine.format_check import check_format
    from ditto_hub.hub.preflight import preflight
    from ditto_hub.hub.preflight import require_usable as require_base

    base_model = choose_smollm2(base_model)
    require_base(preflight(base_model, token=token))
    form = load_format(base_model, token)
    check_format(form)
    fit = [f for f in misfits(form, demos) if not (outside and f.code == "unfamiliar")]
    own = [f for f in findings_of(demos, form.count) if not _said_by_base(f, fit)]
    return demos, _errors_first([*read, *outside, *fit, *own])


def _said_by_base(finding: Finding, fit: list[Finding]) -> bool:
    """Tell whether the base model's template settles a finding: a thought that it leaves out."""
    dropped = {i for f in fit if f.code in ("thought-dropped", "only-thought") for i in f.ids}
    return finding.code == "thought" and dropped.issuperset(finding.ids)


def _errors_first(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: finding.level != "error")


def outside_pocket(demos: DemoSet) -> list[Finding]:
    """Warn of demonstrations that the embedded base model cannot learn to write."""
    strange = tuple(d.id for d in demos if not speaks(d.completion))
    if not strange:
        return []
    return [Finding("warning", "outside-pocket", Message("api.pocket_other_words"), strange)]


def check(
    demos: DemoSet | str | Path, base_model: str | None = None, *, token: Token | str = MACHINE
) -> list[Finding]:
    """Return what is wrong with demonstrations, or could be better.

    Args: as `check_demos`.

    Raises:
        DemoError: nothing could be read.
    """
    return check_demos(demos, base_model, token=token)[1]


def default_config(base_model: str, seed: int = 0) -> RunConfig:
    """Return the preset a base model gets when none is asked for, by its size."""
    return preset(preset_name(base_model), seed)


def create_run(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    *,
    output: str | Path | None = None,
    owner: str | None = None,
    parent: Run | None = None,
    revision: str | None = None,
    token: Token | str,
) -> Run:
    """Check the input, then make a run folder; nothing is trained yet.

    Args:
        demos: the demonstrations, a file of them, or "example:NAME".
        base_model: pocket, smollm2, a Hub id or a folder.
        config: settings; default the base model's preset, or the parent's.
        output: the run's folder; default a new one under the home folder.
        owner: Hub user name or browser secret; None for the machine's own user.
        parent: a finished run to start from: its adapter is trained on, and its demonstrations
            come before the new ones.
        revision: of the base model on the Hub.
        token: of the Hub, to read a private or gated base model.

    Raises:
        DemoError, BaseModelError, ChatTemplateError, ConfigError, HubError, RunError,
        StorageError: with what to do.
    """
    from ditto_hub.engine.base_fit import require_fit
    from ditto_hub.engine.base_model import load_format
    from ditto_hub.hub.preflight import preflight
    from ditto_hub.hub.preflight import require_usable as require_base

    given = demos if isinstance(demos, DemoSet) else read_demos(demos)
    notes: list[tuple[str, Text]] = [("file", notice) for notice in given.notices]
    if parent is not None:
        base_model, revision, config, given = _going_on(parent, config, given)
    else:
        base_model = choose_smollm2(base_model)
    config = config or default_config(base_model)
    require_usable(given)
    held_out = config.selection.held_out
    given = given.split(None if held_out < 0 else held_out, config.seed)
    if config.warm_start.distils:
        require_teachable(given.train)
    found = require_base(preflight(base_model, token, revision))
    fit = require_fit(load_format(base_model, token, found.revision), given)
    notes += [(one.code, one.said) for one in fit]
    base = {"revision": found.revision, "licence": found.licence.to_json()}
    base |= _named(base_model, config)
    run = Run.create(given, base, config, Path(output) if output else None, owner)
    if notes:
        run.record.notices = [{"code": c, "message": said} for c, said in notes]
        run.save_record()
    if parent is not None:
        inherit(run, parent)
    if not isinstance(demos, DemoSet):
        _keep_traits(run, _demo_path(demos))
    return run


def _going_on(
    parent: Run, config: RunConfig | None, new: DemoSet
) -> tuple[str, str | None, RunConfig, DemoSet]:
    """Return base model, revision, settings and demonstrations of a run that goes on from another.

    Raises:
        BaseModelError: the base model is not what the parent was trained on any more.
        DemoError: all of `new` are the parent's already.
    """
    from ditto_hub.engine.fingerprint import require_same_base

    base = parent.record.base_model
    require_same_base(base)
    old = parent.demos()
    demos = join_demos(old, new)
    if len(demos) == len(old):
        raise DemoError("api.nothing_added", name=parent.title, n=len(old))
    return str(base["id"]), base.get("revision"), config or parent.config, demos


def _named(base_model: str, config: RunConfig) -> dict[str, Any]:
    """Return what a run's record says of which base model it is, and how it is loaded."""
    from ditto_hub.engine.fingerprint import fingerprint

    named: dict[str, Any] = {"id": base_model, **recorded(base_model)}
    if is_folder(base_model):
        named |= {"id": str(Path(base_model).resolve()), "fingerprint": fingerprint(base_model)}
    if config.base.quantize != "none":
        named["quantize"] = config.base.quantize
    return named


def join_demos(old: DemoSet, new: DemoSet) -> DemoSet:
    """Return a parent's demonstrations followed by those of `new` that are not among them."""
    have = {(d.prompt_key, d.completion) for d in old}
    taken = {d.id for d in old}
    joined = list(old)
    for demo in new:
        if (demo.prompt_key, demo.completion) in have:
            continue
        name, n = demo.id, len(joined) + 1
        while name in taken:
            name, n = f"demo-{n}", n + 1
        taken.add(name)
        joined.append(replace(demo, id=name))
    return DemoSet(tuple(joined))


def inherit(run: Run, parent: Run) -> None:
    """Let a new run start from a finished one's adapter, and write down which.

    Raises:
        RunError: the parent has no adapter.
    """
    folder = parent.candidate()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        run.write(f"parent/{name}", (folder / name).read_bytes())
    run.record.parent = parent.record.id
    run.save_record()


def _keep_traits(run: Run, demos: Path) -> None:
    """Copy what the grammar's judge and the comparison need from beside a demonstrations file."""
    for suffix, name in ((".traits.json", "traits.json"), (".prompts.jsonl", "prompts.jsonl")):
        beside = demos.with_name(demos.stem + suffix)
        if beside.is_file():
            run.write(name, beside.read_bytes())


def _demo_path(source: str | Path) -> Path:
    if not isinstance(source, str | Path):
        raise DemoError("files.source", kind=type(source).__name__)
    text = str(source)
    if text.startswith("example:"):
        name = text.removeprefix("example:")
        return example_text_path(name) or pocket.voice_path(name)
    return Path(text)
