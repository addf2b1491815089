"""How far shared forwards are from single ones, for each family that shares: latents and pixels.

    python -m benchmarks.batching_parity [--only demo,wan] [--json FILE]

Four requests (other prompts, other seeds, 3 to 6 steps) are denoised each alone with `exact`, which
is bit for bit the plain pipeline, and together: whoever may share a forward does, branches of
guidance too. float32, one thread, random weights but for the demo model. *latents*: the largest
difference, relative to the largest value. *pixels*: how many of the 8-bit values differ, and by how
many levels at most; of sound alone, the samples as 16 bits.

Ends with status 1 if any pixel is more than one level apart.
"""

import argparse
import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import describe
from benchmarks.overhead import MODEL
from roles.split.loading import load
from roles.split.program import Call, Program
from tests.support import pipelines
from tests.support.batching import Asked, Denoisers, apart
from tests.support.splitting import Arrays, arrays, drive
from transfer.messages import Inputs

FAMILIES = (
    "demo",
    *sorted(pipelines.PARAMS.keys() - pipelines.UNSPLITTABLE - {"animatediff"}),  # it runs alone
)
PROMPTS = ("a red circle", "two green stars and a boat", "blue", "a cat on a mat")
STEPS = (4, 6, 3, 5)


def requests(params: dict[str, Any], exact: bool) -> list[Call]:
    own: list[dict[str, Any]] = [
        {"prompt": p, "num_inference_steps": s} for p, s in zip(PROMPTS, STEPS, strict=True)
    ]
    return [
        Call(f"r{seed}", Inputs({**params, **each}, seed, exact=exact))
        for seed, each in enumerate(own)
    ]


def compare(program: Program, params: dict[str, Any]) -> dict[str, float]:
    calls = requests(params, exact=True)
    payloads = [program.encode(call) for call in calls]
    alone = [
        drive(program.denoise(call, copy.deepcopy(payload)))
        for call, payload in zip(calls, payloads, strict=True)
    ]
    asked = [
        Asked(call, program.denoise(call, payload))
        for call, payload in zip(requests(params, exact=False), payloads, strict=True)
    ]
    room = Denoisers(asked)
    room.run()
    together = [each.denoising.result() for each in asked]
    pictures = [
        (arrays(program.decode(call, one)), arrays(program.decode(call, other)))
        for call, one, other in zip(calls, together, alone, strict=True)
    ]
    levels = np.concatenate([_levels(one, other) for one, other in pictures])
    return {
        "calls": max(room.calls),
        "latents": max(map(apart, together, alone)),
        "differ": float((levels > 0).mean()),
        "levels": int(levels.max()),
    }


def _levels(one: Arrays, other: Arrays) -> Any:
    """The differences of all pixels' values, in levels of 8 bits; of sound, in levels of 16."""
    pairs = list(zip(one, other, strict=True))
    frames = [pair for pair in pairs if pair[1].dtype == np.uint8]
    scale = 1 if frames else 32767
    apart = [np.rint(scale * a.astype(float)) - np.rint(scale * b) for a, b in frames or pairs]
    return np.abs(np.concatenate([each.reshape(-1) for each in apart]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="families, with commas between them")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(f"{describe()}; float32, 1 thread\n")
    print("| family | most calls in a forward | latents apart | values that differ | by at most |")
    print("|---|---:|---:|---:|---:|")
    rows = []
    for family in options.only.split(",") if options.only else FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            tiny = family != "demo"
            path = pipelines.build(family, Path(folder) / family) if tiny else MODEL
            program = load(path, ["encoder", "denoiser", "decoder"], "float32")
        row = compare(program, pipelines.PARAMS[family] if tiny else {})
        rows.append({"family": family, **row})
        differ = f"{100 * row['differ']:.2f} %"
        print(f"| {family} | {row['calls']} | {row['latents']:.1e} | {differ} | {row['levels']} |")
        sys.stdout.flush()
    if options.json:
        told = {"environment": describe(), "rows": rows}
        options.json.write_text(json.dumps(told, indent=1))
    pictures = [row["levels"] for row in rows if row["family"] != "stable_audio"]
    sys.exit(any(levels > 1 for levels in pictures))


if __name__ == "__main__":
    main()
