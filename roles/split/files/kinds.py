"""Whether a pipeline takes a component of another class than its own, as diffusers decides it.

`from_pretrained(..., vae=other)` wants the same kind of thing, a model, a scheduler, a tokenizer;
what it does not expect beyond that it says in a warning, and takes.
"""

import logging
from typing import Any

import diffusers
import transformers
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_base import ImageProcessingMixin

from roles.split.files.components import component_class
from roles.split.files.elsewhere import Elsewhere
from roles.split.files.folder import ComponentEntry, Folder
from roles.split.program import ModelError

log = logging.getLogger(__name__)

_BASES = {
    diffusers.ModelMixin: "model of diffusers",
    diffusers.SchedulerMixin: "scheduler",
    transformers.PreTrainedModel: "model of transformers",
    transformers.PreTrainedTokenizerBase: "tokenizer",
    transformers.ProcessorMixin: "processor",
    ImageProcessingMixin: "image processor",
    FeatureExtractionMixin: "feature extractor",
}


def check_kinds(folder: Folder) -> None:
    """Raises ModelError for a component from elsewhere that is another kind of thing."""
    for name, replaced in folder.replaced.items():
        found = component_class(ComponentEntry(name, replaced.kind.library, replaced.kind.name))
        if replaced.own is not None:
            _check(folder, name, replaced, found)


def _check(folder: Folder, name: str, replaced: Elsewhere, found: Any) -> None:
    assert replaced.own is not None
    own = component_class(ComponentEntry(name, replaced.own.library, replaced.own.name))
    base = next((base for base in _BASES if issubclass(own, base)), None)
    if base is not None and not issubclass(found, base):
        raise ModelError(
            f"--component {name}: {replaced.told} has the class {found.__name__}; "
            f"{folder.pipeline} takes a {_BASES[base]} there, such as {own.__name__}"
        )
    if found is not own:
        log.info("%s: %s in the place of %s", name, found.__name__, own.__name__)
