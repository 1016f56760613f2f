"""The card's bench in tiny and without a network, for test_card.py: `python bare_machine.py FILE`."""

import socket
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny_release import tiny_profile

from mglib import __main__ as commands
from mglib.fullscale import card
from mglib.fullscale.random_model import memory_tokenizer
from mglib.model import device


class Refused(socket.socket):
    """Stands for a machine without a network."""

    def connect(self, address: object) -> None:
        raise OSError(f"{address} was asked for")


def main(file: Path) -> int:
    socket.socket = Refused
    device.frozen_dtype = lambda _: torch.float32
    tiny = tiny_profile(len(memory_tokenizer()))
    extent = card.Extent(side=64, copied=1 << 16, rounds=1, tokens=2)
    beside = replace(tiny, name="tiny-beside")
    commands.main(["bench", "--help"])  # what `make bench` starts can be imported and asked
    return card.run(tiny, torch.device("cpu"), beside=beside, extent=extent, file=file)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
