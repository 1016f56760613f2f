"""The part that panels for going through many things share: buttons that keys press too, and progress."""

from collections.abc import Callable

import ipywidgets


class KeyPanel:
    """Buttons, a field whose keys press them, a progress bar and a line that says how far it is.

    A panel made from it fills `buttons` by key, shows `controls`, and says in `refresh` what is shown now.
    """

    leaving = ""  # keys whose buttons hand the focus on to something else

    def __init__(self, total: int) -> None:
        self.buttons: dict[str, ipywidgets.Button] = {}
        self.progress = ipywidgets.IntProgress(max=total)
        self.status = ipywidgets.Label()
        self.keys = ipywidgets.Text(layout={"width": "260px"})
        self.keys.observe(self.press, "value")

    def controls(self) -> list[ipywidgets.HBox]:
        """Return the rows that stand below what is shown."""
        *some, last = self.buttons
        self.keys.placeholder = f"click here, then press {', '.join(some)} or {last}"
        return [
            ipywidgets.HBox([*self.buttons.values(), self.keys]),
            ipywidgets.HBox([self.progress, self.status]),
        ]

    def button(self, label: str, style: str, act: Callable[[], None]) -> ipywidgets.Button:
        """Make a button that acts and then shows what comes next."""

        def click(_: ipywidgets.Button) -> None:
            try:
                act()
            except ValueError as error:
                self.status.value = str(error)
            else:
                self.refresh()

        made = ipywidgets.Button(description=label, button_style=style)
        made.on_click(click)
        return made

    def press(self, change: dict) -> None:
        """Press the buttons of the keys that were typed into the key field since it was last heard of.

        The field is not emptied: a browser that has sent one key may already hold the next ones.
        """
        typed = change["new"][len(change["old"]) :]
        for key in typed.lower():
            if key in self.buttons:
                self.buttons[key].click()
                if key not in self.leaving:
                    self.keys.focus()

    def refresh(self) -> None:
        """Show what comes next."""
        raise NotImplementedError
