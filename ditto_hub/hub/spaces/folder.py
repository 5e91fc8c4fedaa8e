"""A Space's folder, from the installed package and `space_config/`: pure, nothing is sent."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceHardware
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

from ditto_hub.config import preset
from ditto_hub.cost.devices import ALIKE, DEVICES, PRICES, find_device
from ditto_hub.cost.estimates import Workload
from ditto_hub.cost.profiles import BaseChoice, Profile, load_profile, space_file
from ditto_hub.cost.roofline import Job, estimate_on
from ditto_hub.cost.shapes import SHAPES
from ditto_hub.errors import ConfigError, MemoryShortError
from ditto_hub.hub.publishing.bundle import Bundle
from ditto_hub.words import Message, Text

PACKAGE = Path(__file__).resolve().parents[2]
DESCRIPTION_CHARS = 60  # the Hub refuses longer ones
# Of these a card may suggest one; others can only be asked for by the API.
SUGGESTED = ("cpu-", "t4-", "l4x", "l40s", "a10g-", "a100")
MORE = ("gguf>=0.18,<1",)  # the extra [gguf], for the download for Ollama
BUILDERS_OWN = ("gradio", "gradio-client", "spaces", "uvicorn", "websockets")
PAID_SLEEP_S = 1800
# A run that a Space should be able to make: seven demonstrations of a long letter.
TYPICAL = Workload(6, 1, 60.0, 250.0, 330)


@dataclass(frozen=True)
class SpacePlan:
    """Say what a Space is to be.

    Args:
        profile: what the app offers there, as it is written into the Space.
        hardware: the Hub's name of it.
        files: path -> content of the whole repo.
        variables: public settings of the Space.
        sleep_time_s: idle seconds until it sleeps; None leaves it to the platform.
        notes: what its owner should know.
    """

    profile: Profile
    hardware: str
    files: Bundle
    variables: Mapping[str, str]
    sleep_time_s: int | None
    notes: tuple[Text, ...] = ()

    def write(self, folder: Path) -> None:
        """Write the files into an empty folder.

        Raises:
            ConfigError: there is something in it.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError("hub.output_not_empty", folder=folder)
        for path, data in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data.read_bytes() if isinstance(data, Path) else data)


def plan_space(hardware: str = "zero-a10g", base_model: str | None = None) -> SpacePlan:
    """Return what a Space on some hardware is to be.

    Args:
        hardware: the Hub's name, such as zero-a10g, cpu-basic or l4x1.
        base_model: offered first; default the profile's.

    Raises:
        ConfigError: no such hardware for Spaces, or a base model that no Space can have.
        MemoryShortError: the base model cannot be trained there; with what would fit.
    """
    profile = profile_for(hardware)
    if base_model and "/" not in base_model and base_model != "pocket":
        raise ConfigError("hub.not_a_space_base", base_model=base_model)
    if base_model and profile.base(base_model) is None:
        choice = BaseChoice(base_model, Message("offer.owners"), "fast")
        profile = replace(profile, base_models=(choice, *profile.base_models))
    profile = replace(profile, default_base_model=base_model or profile.default_base_model)
    tight = require_fit(profile, hardware)
    files = {
        **package_files(),
        **config_files(profile),
        "README.md": space_card(profile).encode(),
        "app.py": space_file("app.py"),
        "requirements.txt": requirements().encode(),
    }
    paid = hardware not in ("cpu-basic", "zero-a10g")
    return SpacePlan(
        profile=profile,
        hardware=hardware,
        files=files,
        variables={**settings()["variables"], "DITTO_HUB_PROFILE": profile.name},
        sleep_time_s=(profile.sleep_time_s or PAID_SLEEP_S) if paid else None,
        notes=(*notes(profile, hardware, paid), *tight),
    )


def profile_for(hardware: str) -> Profile:
    """Return the profile of a Space's hardware.

    Raises:
        ConfigError: Spaces have no such hardware.
    """
    known = [str(h.value) for h in SpaceHardware]
    if hardware not in known:
        raise ConfigError("hub.no_such_hardware", hardware=hardware, known=", ".join(known))
    names = {"zero": "zerogpu", "cpu": "cpu"}
    name = names.get(hardware.partition("-")[0], "gpu")
    return replace(load_profile(name), hardware=hardware)


def require_fit(profile: Profile, hardware: str) -> tuple[Message, ...]:
    """Refuse a base model that a Space's hardware cannot train, as far as both are known.

    Returns:
        What to say where it can in smaller batches alone.

    Raises:
        MemoryShortError: saying what would fit.
    """
    shape = SHAPES.get(profile.default_base_model)
    name = ALIKE.get(hardware, hardware)
    if shape is None or name not in DEVICES:
        return ()
    choice = profile.base(profile.default_base_model)
    config = preset(choice.preset if choice else "fast")
    found = estimate_on(Job(shape, config, TYPICAL, find_device(hardware)))
    if not found.possible:
        raise MemoryShortError(
            "hub.hardware_too_small",
            default_base_model=profile.default_base_model,
            hardware=hardware,
            memory_bytes=found.memory_bytes / 1e9,
            remedies=found.remedy,
        )
    if found.fits:
        return ()
    return (Message("hub.space.tight", base=profile.default_base_model, hardware=hardware),)


def notes(profile: Profile, hardware: str, paid: bool) -> list[Message]:
    """Return what a Space's owner should know of it."""
    told = []
    device = DEVICES.get(ALIKE.get(hardware, hardware))
    price = PRICES.get(hardware, device.price_usd_h if device else None)
    if paid:
        told.append(
            Message(
                "hub.space.paid",
                hardware=hardware,
                cost=Message("hub.space.cost", usd=price) if price else "",
                each=profile.runs_per_visitor,
                all=profile.runs_per_day,
            )
        )
    if re.search(r"x[248]$", hardware):
        told.append(Message("hub.space.one_gpu", hardware=hardware))
    if hardware == "zero-a10g":
        told.append(Message("hub.space.quota"))
    if "gated-repos" in profile.scopes:
        told.append(Message("hub.space.gated"))
    return told


@cache
def settings() -> dict[str, Any]:
    """Return what `space_config/space.toml` holds."""
    return tomllib.loads(space_file("space.toml").read_text(encoding="utf-8"))


def front_matter(profile: Profile) -> dict[str, Any]:
    """Return the front matter of a Space's README.

    Raises:
        ConfigError: the description is longer than the Hub takes.
    """
    card = dict(settings()["card"])
    if len(card["short_description"]) > DESCRIPTION_CHARS:
        raise ConfigError("hub.description_too_long", description_chars=DESCRIPTION_CHARS)
    if profile.hardware and profile.hardware.startswith(SUGGESTED):
        card["suggested_hardware"] = profile.hardware
    card["hf_oauth_scopes"] = list(profile.scopes)
    models = [base.id for base in profile.base_models if base.id != "pocket"]
    if models:
        card["models"] = models
    default = profile.default_base_model
    if default != "pocket":
        files = settings()["preload"].get(default)
        card["preload_from_hub"] = [f"{default} {files}" if files else default]
    return card


def space_card(profile: Profile) -> str:
    """Return the README of a Space."""
    body = space_file("card.md").read_text(encoding="utf-8")
    head = yaml_dump(front_matter(profile), sort_keys=False)
    return f"---\n{head}---\n{body}"


def config_files(profile: Profile) -> Bundle:
    """Return `space_config/` as the Space has it, its own profile written into it."""
    folder = space_file()
    files: Bundle = {
        f"space_config/{path.relative_to(folder).as_posix()}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".toml", ".md", ".py", ".txt")
        if path.name != "__init__.py"
    }
    files[f"space_config/profiles/{profile.name}.toml"] = profile_text(profile).encode()
    return files


def profile_text(profile: Profile) -> str:
    """Return a profile's file with this profile's hardware, default and offers in it."""
    text = space_file(f"profiles/{profile.name}.toml").read_text(encoding="utf-8")
    for key in ("default_base_model", "hardware"):
        value = getattr(profile, key)
        text = re.sub(rf'^{key} = ".*"$', f'{key} = "{value}"', text, flags=re.MULTILINE)
    offered = {row["id"] for row in tomllib.loads(text)["base_models"]}
    for base in profile.base_models:
        if base.id not in offered:
            words = base.words.code if isinstance(base.words, Message) else base.words
            text += (
                f'\n[[base_models]]\nid = "{base.id}"\nwords = "{words}"\n'
                f'preset = "{base.preset}"\n'
            )
    return text


def package_files() -> Bundle:
    """Return the installed package's own files, as a Space imports them."""
    folder = PACKAGE
    return {
        f"ditto_hub/{path.relative_to(folder).as_posix()}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".pyc", ".so")
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
        if path.relative_to(folder).parts[0] != "space_config"
    }


def requirements() -> str:
    """Return the Space's requirements: ours, less what its builder adds, and no exact pin.

    Raises:
        ConfigError: one of them is pinned, which the builder's own bounds may contradict.
    """
    lines = [line for line in [*_declared(), *MORE] if _name(line) not in BUILDERS_OWN]
    pinned = [line for line in lines if "==" in line]
    if pinned:
        raise ConfigError("hub.requirement_is_pinned", pinned=pinned[0])
    head = (
        "# Written by `ditto-hub deploy`. The builder adds gradio, spaces and a bound for torch.\n"
    )
    return head + "".join(f"{line}\n" for line in sorted(lines))


def _declared() -> list[str]:
    beside = PACKAGE.parent
    if (beside / "pyproject.toml").is_file() and (beside / "requirements.txt").is_file():
        text = (beside / "requirements.txt").read_text(encoding="utf-8")
        return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    found = importlib.metadata.requires("ditto-hub") or []
    return [line for line in found if "extra ==" not in line]


def _name(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")
