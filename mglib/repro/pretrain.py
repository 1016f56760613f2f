"""`make pretrain`: train BLIP-2 mini again, after printing how long the published one took."""

from mglib.data.records import read_json
from mglib.paths import ROOT
from mglib.repro.ledger import CannotRun
from mglib.study.blip2 import CARD
from mglib.study.machine import here
from mglib.study.pretrain import pretrain
from mglib.study.study import Study


def remake(study: Study) -> None:
    """Pretrain a profile's BLIP-2 into data/; raises CannotRun if it has none to pretrain."""
    if study.profile.pretrain is None:
        raise CannotRun(
            f"{study.profile.name} starts from BLIP-2's own release: there is nothing to pretrain."
        )
    folder = ROOT / "data" / f"blip2_{study.profile.name}"
    if (folder / CARD).exists():
        card = read_json(folder / CARD)
        minutes = sum(training["minutes"] for training in card["trainings"].values())
        known = f"the published one's trainings took {minutes:.0f} min on {card['machine']}"
    else:
        known = f"data/{folder.name} was never made, so how long it takes is not known"
    print(f"this machine: {here()}\n{known}", flush=True)
    pretrain(study, folder, {"machine": str(here())})
    print(f"BLIP-2 mini lies in {folder.relative_to(ROOT)}.")
