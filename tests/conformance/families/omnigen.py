"""OmniGen, which needs torchvision."""

from tests.conformance.case import Absent

ABSENT = [
    Absent(
        "OmniGenPipeline",
        "its constructor needs torchvision, which is no dependency of this project (NameError: "
        "OmniGenMultiModalProcessor)",
    ),
]
