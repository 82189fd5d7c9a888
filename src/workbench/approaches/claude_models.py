"""What is known of the models: at which size they see an image, whether they can be asked not to think."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.prepare.decode import Preparation

PATCH = 28
"""Pixels; an image costs a token per begun square of this side."""
SIDE_OF_MANY = 1988
"""Pixels, in whole squares; with more than MANY images in a question none may be larger than 2,000."""
MANY = 20
MOST_IMAGES = 100
"""In one question, for models of every context size."""


@dataclass(frozen=True)
class Model:
    """One model, or one family of them."""

    long_edge: int
    """Pixels; the service shrinks what is larger."""
    patches: int
    """Squares, and so tokens, that an image takes at most."""
    thinking: tuple[str, ...] = ()
    """The types of thinking that can be asked for; () where nobody knows: whatever is asked for is sent."""
    quiet: str | None = None
    """What to ask for so that it answers without thinking; "" means nothing; None where it always may think."""

    def preparation(self, images: int) -> Preparation:
        """The largest size that the model sees, for the last of so many images in one question."""
        side = min(self.long_edge, SIDE_OF_MANY) if images > MANY else self.long_edge
        return Preparation(side, side, "within", patch=PATCH, patches=self.patches)


_HIGH, _STANDARD = (2576, 4784), (1568, 1568)
_MODELS: Mapping[str, Model] = {
    "claude-haiku-5-5": Model(*_HIGH, ("adaptive", "disabled"), "disabled"),
    "claude-sonnet-5-5": Model(*_HIGH, ("adaptive", "between_tools"), "between_tools"),
    "claude-opus-5-5": Model(*_HIGH, ("adaptive",)),
    "claude-fable-5": Model(*_HIGH, ("adaptive",)),
    "claude-mythos-5": Model(*_HIGH, ("adaptive",)),
    "claude-sonnet-5": Model(*_HIGH, ("adaptive", "disabled"), "disabled"),
    "claude-opus-5": Model(*_HIGH),
    "claude-opus-4-8": Model(*_HIGH),
    "claude-opus-4-7": Model(*_HIGH),
    "claude-opus-4-6": Model(*_STANDARD, quiet=""),
    "claude-sonnet-4-6": Model(*_STANDARD, quiet=""),
    "claude-opus-4-5": Model(*_STANDARD, quiet=""),
    "claude-sonnet-4-5": Model(*_STANDARD, quiet=""),
    "claude-haiku-4-5": Model(*_STANDARD, quiet=""),
}
_OTHER = Model(*_STANDARD)
"""A model that is not listed is sent what every model sees whole."""


def family(name: str) -> str:
    """The name without Bedrock's region and vendor, and without the day of a snapshot."""
    return re.sub(r"(-\d{8})?(-v\d+(:\d+)?)?$", "", name.rpartition("anthropic.")[2])


def find_model(name: str) -> Model:
    """What is known of the model with this name, on either platform."""
    ours = family(name)
    found = [known for known in _MODELS if ours == known or ours.startswith(f"{known}-")]
    return _MODELS[max(found, key=len)] if found else _OTHER
