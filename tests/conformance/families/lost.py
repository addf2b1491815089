"""Pipelines that the pinned diffusers has, and cannot load."""

from tests.conformance.case import Absent

_REASON = (
    "diffusers 0.42.1 loads it from no folder: its {component} is a {kind}, whose module moved to "
    "diffusers.pipelines.deprecated, where from_pretrained does not look. It fails for the "
    'authors\' folder, which names the module "{module}", and for what save_pretrained writes'
)
_LOST = {
    ("text_encoder", "RobertaSeriesModelWithTransformation", "alt_diffusion"): [
        "AltDiffusionPipeline",
        "AltDiffusionImg2ImgPipeline",
    ],
    ("image_encoder", "PaintByExampleImageEncoder", "paint_by_example"): ["PaintByExamplePipeline"],
    ("text_proj", "UnCLIPTextProjModel", "unclip"): [
        "UnCLIPPipeline",
        "UnCLIPImageVariationPipeline",
    ],
    ("vqgan", "PaellaVQModel", "wuerstchen"): [
        "StableCascadeCombinedPipeline",
        "StableCascadeDecoderPipeline",
        "WuerstchenCombinedPipeline",
        "WuerstchenDecoderPipeline",
    ],
    ("prior", "WuerstchenPrior", "wuerstchen"): ["WuerstchenPriorPipeline"],
    (
        "learned_classifier_free_sampling_embeddings",
        "LearnedClassifierFreeSamplingEmbeddings",
        "vq_diffusion",
    ): ["VQDiffusionPipeline"],
    ("qformer", "Blip2QFormerModel", "blip_diffusion"): [
        "BlipDiffusionPipeline",
        "BlipDiffusionControlNetPipeline",
    ],
    ("text_unet", "UNetFlatConditionModel", "versatile_diffusion"): [
        "VersatileDiffusionPipeline",
        "VersatileDiffusionDualGuidedPipeline",
    ],
}

ABSENT = [
    Absent(name, _REASON.format(component=component, kind=kind, module=module))
    for (component, kind, module), names in _LOST.items()
    for name in names
]
