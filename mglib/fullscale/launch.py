"""Train stage 1 of a full-size profile, in one process or one for each GPU: `make train`.

Notebooks find a training finished here, since both name it by what it depends on.
"""

import subprocess
import sys
from dataclasses import asdict, replace

import torch
from accelerate import PartialState

from mglib.fullscale.preflight import gaps, missing, other_numbers, require_full_size
from mglib.model import device
from mglib.settings import Settings
from mglib.study.stage1 import join_parts, open_sources, train_streamed
from mglib.study.study import Study


def train(
    settings: Settings, *, stage: int = 1, accumulate: int = 1, gpus: int = 1, allow_missing: bool = False
) -> int:
    """Train stage 1, each step in `accumulate` parts; `allow_missing` accepts gaps in the numbered shards.
    Returns the exit status of the training; raises ValueError with a line for everything that is missing
    or cannot be trained.
    """
    if stage != 1:
        again = settings.command("reproduce", NOTEBOOKS="03 04")
        of_model = replace(settings, seed=Settings.seed, weights=Settings.weights)  # finetune takes neither
        own = of_model.command("finetune", DATA="downloads/cc_sbu_align", REPLAY=0)
        raise ValueError(
            f"Stage 1 alone is trained here: stage 2 takes minutes on one GPU, `{again}` on what the model "
            f"writes itself, `{own}` on the authors' pairs or on any others."
        )
    require_full_size(settings)
    study = Study.open(settings)
    if faults := missing(study.profile) + ([] if allow_missing else gaps(study.profile)):
        raise ValueError("\n".join(faults))
    if gpus > 1:
        if 0 < (found := torch.cuda.device_count()) < gpus:
            raise ValueError(f"This machine has {found} GPUs: take GPUS={found}, or more ACCUMULATE.")
        open_sources(study)  # counted here, since processes that wait for another to count time out
        # As `accelerate launch` does.
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
        passed = {"accumulate": accumulate, "gpus": 1, **asdict(settings)}
        words = [f"--{name}={value}" for name, value in passed.items() if value != ""]
        words += ["--allow-missing"] if allow_missing else []
        return subprocess.run([*command, "-m", "mglib", "train", *words], check=False).returncode
    state = PartialState(cpu=device.pick().type == "cpu")  # it gives each process its GPU
    for remark in other_numbers(study.release):
        state.print(remark)
    trained = train_streamed(study, join_parts(study), accumulate=accumulate)
    state.print(f"stage 1 is finished: loss {trained.log[-1]['loss']:.3f}, weights in {trained.state}")
    state.wait_for_everyone()
    state.destroy_process_group()  # else a process that ends after the main one may abort
    return 0
