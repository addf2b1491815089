"""What models of other kinds register as."""

from transfer.messages import ModelInfo, Parameter

_PROMPT = Parameter("prompt", "str", required=True)

EDITOR = ModelInfo(
    name="edits",
    pipeline="EditPipeline",
    fingerprint="e",
    modality="image",
    parameters=[_PROMPT, Parameter("strength", "float", required=False)],
    pictures=["image", "mask_image"],
)
VIDEO = ModelInfo(
    name="films",
    pipeline="FilmPipeline",
    fingerprint="f",
    modality="video",
    parameters=[
        _PROMPT,
        Parameter("negative_prompt", "str", required=False),
        Parameter("width", "int", required=False),
        Parameter("height", "int", required=False),
        Parameter("num_frames", "int", required=False, default=17),
        Parameter("num_inference_steps", "int", required=False, default=4),
    ],
    default_size=(64, 48),
    size_multiple=16,
    fps=16.0,
    fps_from="example",
    frames_step=4,
    pictures=["image"],
)
AUDIO = ModelInfo(
    name="sounds",
    pipeline="SoundPipeline",
    fingerprint="s",
    modality="audio",
    parameters=[_PROMPT, Parameter("audio_end_in_s", "float", required=False)],
    sample_rate=44_100,
)
