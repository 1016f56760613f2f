"""`make pretrain`: BLIP-2 mini anew, with what it costs said beforehand and kept in its card."""

from mglib.paths import ROOT
from mglib.repro import budget
from mglib.repro.ledger import CannotRun
from mglib.study.machine import here
from mglib.study.pretrain import pretrain
from mglib.study.study import Study


def remake(study: Study) -> None:
    """Make the release of a profile in data/; raises CannotRun for a profile that has none to make."""
    if study.profile.pretrain is None:
        raise CannotRun(
            f"{study.profile.name} starts from BLIP-2's own release: there is nothing to pretrain."
        )
    folder = ROOT / "data" / f"blip2_{study.profile.name}"
    machine, work = here(), budget.pretraining(study.profile)
    flops = sum(part.flops for part in work)
    minutes = budget.seconds(work, machine) / 60
    print(f"this machine: {machine}")
    print(f"expected minutes to pretrain, if nothing is kept from an earlier run: {minutes:.0f}", flush=True)
    pretrain(study, folder, {"machine": str(machine), "tflop": round(flops / 1e12)})
    print(f"BLIP-2 mini lies in {folder.relative_to(ROOT)}.")
