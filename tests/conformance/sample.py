"""The cases that run with every `make test`: each for a mechanism that the others do not have."""

T9 = {
    "FluxKontextPipeline/edit": "a reference picture beside the latents, in one sequence",
    "QwenImageEditPipeline/edit": "a picture that the text encoder reads, and the VAE",
    "WanImageToVideoPipeline/image-to-video": "a first frame, by an image encoder and by the VAE",
    "StableVideoDiffusionPipeline/image-to-video": "decoding in chunks; no text",
}
"""Conditioning by pictures, which peers drop on the way."""

T10 = {
    "LatentConsistencyModelPipeline/text-to-image": "noise in each step; no step can be skipped",
    "SanaSprintPipeline/text-to-image": "a stochastic sampler of flows",
}
"""Samplers that draw in their loop, from the request's generator."""

OTHERS = {
    "FluxPipeline/text-to-image": "guidance in the model; latents packed into tokens",
    "Flux2KleinPipeline/text-to-image": "statistics of latents in buffers of the VAE",
    "QwenImagePipeline/text-to-image": "branches of guidance one after the other, texts with masks",
    "ZImagePipeline/text-to-image": "lists with an entry for each sample",
    "StableDiffusionPipeline/text-to-image": "guidance as a batch of two",
    "StableDiffusionImg2ImgPipeline/image-to-image": "a distribution of latents, drawn from later",
    "StableDiffusionInpaintPipeline/inpainting-with-a-text-model": "a mask, blended in each step",
    "StableDiffusionControlNetPipeline/two-ControlNets": "several models that denoise",
    "StableDiffusionSAGPipeline/text-to-image": "reads what its attention kept of a forward",
    "StableDiffusionXLPipeline/text-to-image": "two text encoders, and sizes as conditions",
    "PixArtAlphaPipeline/text-to-image": "no callback after a step",
    "WanPipeline/text-to-video,-two-transformers": "one transformer after another; films",
    "LTX2Pipeline/text-to-video-with-sound": "two decoders; a film with sound",
    "AnimateDiffPipeline/text-to-video": "a UNet made of two components in the constructor",
    "StableAudioPipeline/text-to-sound": "sound",
    "MarigoldDepthPipeline/image-to-depth": "outputs that are no pictures",
    "DDIMPipeline/unconditional": "no encoder and no decoder: monolithic",
    "KandinskyV22CombinedPipeline/text-to-image": "several pipelines in one: monolithic",
    "FluxModularPipeline/text-to-image": "declared blocks",
}

SAMPLE = T9 | T10 | OTHERS
