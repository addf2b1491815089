"""OmniGen, which needs torchvision."""

from tests.conformance.case import Absent

ABSENT = [
    Absent(
        "OmniGenPipeline",
        "its constructor needs torchvision (NameError: OmniGenMultiModalProcessor), of which there "
        "is no build for the pinned torch",
    ),
]
