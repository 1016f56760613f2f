"""The chat in JupyterLab: choose a picture, ask, read the answer as it streams."""

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import ipywidgets
from PIL import Image

from mglib.chat.chat_model import ChatModel
from mglib.chat.conversation import Conversation
from mglib.data.pictures import picture
from mglib.errors import sentence
from mglib.model.decoding import Decoding

NONE = "choose a picture"
THUMBNAIL = 320  # pixels
# The browser does the copying: the kernel may run on another machine. Quotes are escaped in the attribute.
COPY = (
    '<button class="lm-Widget jupyter-widgets jupyter-button widget-button" style="margin: 0" data-text="{}" '
    'onclick="navigator.clipboard.writeText(this.dataset.text)">Copy</button>'
)
# Colours are JupyterLab's, so that a dark theme works too; left and right tell who speaks.
BUBBLE = (
    '<div style="margin: {}; padding: 6px 12px; border-radius: 10px; line-height: 1.5; '
    'background: var({})"><b>{}:</b> {}</div>'
)
SMALL = '<div style="font-size: 85%; line-height: 1.4; color: var(--jp-ui-font-color2)">{}</div>'


class ChatPanel:
    """A conversation with its controls; `box` is what a notebook shows."""

    def __init__(
        self, chat_model: ChatModel, pictures: Mapping[str, Path] | None = None, questions: Sequence[str] = ()
    ) -> None:
        """`pictures` are offered by name, besides the user's own; each of the `questions` has a button."""
        self.talk = Conversation(chat_model)
        self.pictures = dict(pictures or {})
        self.weights = fine_print(f"Weights: {chat_model.weights()}")
        self.pick = ipywidgets.Dropdown(options=[NONE, *self.pictures], description="picture")
        self.upload = ipywidgets.FileUpload(accept="image/*", multiple=True, description="Your own")
        self.shown = ipywidgets.HBox(layout={"flex_flow": "row wrap"})
        self.log = ipywidgets.HTML().add_class("mglib-log")
        self.question = ipywidgets.Text(placeholder="Ask about the picture", layout={"flex": "1 1 auto"})
        self.offered = [ipywidgets.Button(description=text, layout={"width": "auto"}) for text in questions]
        self.send = ipywidgets.Button(description="Ask", button_style="primary")
        self.clear = ipywidgets.Button(description="Clear")
        self.copy = ipywidgets.HTML()
        self.status = ipywidgets.HTML(layout={"flex": "1 1 0"})  # wraps, unlike a label
        self.settings = settings(chat_model.decoding)
        self.pick.observe(lambda change: self.picked(change["new"]), "value")
        self.upload.observe(lambda change: self.uploaded(change["new"]), "value")
        self.question.on_msg(self.entered)
        for button in self.offered:
            button.on_click(lambda pressed: self.ask(pressed.description))
        self.send.on_click(lambda _: self.ask(self.question.value))
        self.clear.on_click(lambda _: self.start_again())
        self.box = self.layout()
        self.refresh()

    def layout(self) -> ipywidgets.VBox:
        """Arrange the controls."""
        fold = ipywidgets.Accordion([ipywidgets.VBox(list(self.settings.values()))], titles=["Settings"])
        offered = [self.pick] if self.pictures else []
        return ipywidgets.VBox(
            [
                self.weights,
                ipywidgets.HBox([*offered, self.upload, self.status]),
                self.shown,
                self.log,
                ipywidgets.HBox(self.offered, layout={"flex_flow": "row wrap"}),
                ipywidgets.HBox([self.question, self.send, self.clear, self.copy]),
                fold,
            ],
            layout={"max_width": "860px"},
        )

    def picked(self, name: str) -> None:
        """Show one of the offered pictures, and reset the list."""
        if name in self.pictures:
            self.add((self.pictures[name].name, self.pictures[name]))
            self.pick.value = NONE

    def uploaded(self, files: tuple[dict, ...]) -> None:
        """Show the uploaded pictures."""
        if files:
            self.add(*((file["name"], bytes(file["content"])) for file in files))
            self.upload.value = ()

    def add(self, *sources: tuple[str, Path | bytes]) -> None:
        """Add pictures, each with its name, to the next question, and show why any cannot be read."""
        faults = []
        for name, source in sources:
            try:
                image = picture(source, name=name)
                self.talk.show(image)
            except Exception as error:
                faults.append(sentence(error, "chat"))
                continue
            caption = fine_print(self.talk.chat_model.sees(image, name))
            seen = ipywidgets.VBox([thumbnail(image), caption], layout={"width": f"{THUMBNAIL}px"})
            self.shown.children = (*self.shown.children, seen)
        self.refresh(*faults)

    def decoding(self) -> Decoding:
        """Read the settings."""
        return Decoding(**{name: control.value for name, control in self.settings.items()})

    def entered(self, _: ipywidgets.Widget, message: dict, __: list) -> None:
        """Ask when the enter key is pressed in the question's field."""
        if message.get("event") == "submit":
            self.ask(self.question.value)

    def ask(self, question: str) -> None:
        """Ask a question and write the answer into the log as it streams."""
        question = question.strip()
        if not question:
            return
        self.send.disabled, so_far = True, ""
        self.question.value = ""
        try:
            for piece in self.talk.ask(question, self.decoding()):
                so_far += piece
                self.log.value = self.written() + turn(len(self.talk.pending), question, so_far)
        except Exception as error:  # the panel shows any error, and the question can be asked again
            self.refresh(sentence(error, "chat"))
            self.question.value = question
        else:
            self.refresh()
        finally:
            self.send.disabled = False

    def start_again(self) -> None:
        """Forget the conversation and its pictures."""
        self.talk.clear()
        self.shown.children = ()
        self.refresh()

    def written(self) -> str:
        """Return the turns so far as HTML."""
        return "".join(turn(one.pictures, one.question, one.answer, one.pace()) for one in self.talk.history)

    def refresh(self, *faults: str) -> None:
        """Show what the conversation holds now, and what went wrong."""
        self.log.value = self.written()
        self.copy.value = COPY.format(html.escape(self.talk.transcript()))
        waiting = len(self.talk.pending)
        said = [*faults, f"Pictures for the next question: {waiting}"] if waiting else faults
        self.status.value = "<br>".join(map(html.escape, said))


def settings(usual: Decoding) -> dict[str, ipywidgets.Widget]:
    """Return a control for each setting of decoding, with the usual values."""
    wide = {"style": {"description_width": "initial"}}
    return {
        "sample": ipywidgets.Checkbox(usual.sample, description="sample (otherwise greedy)"),
        "top_p": ipywidgets.FloatSlider(usual.top_p, min=0.05, max=1, step=0.05, description="top p"),
        "temperature": ipywidgets.FloatSlider(
            usual.temperature, min=0.1, max=2, step=0.1, description="temperature"
        ),
        "repetition_penalty": ipywidgets.FloatSlider(
            usual.repetition_penalty, min=1, max=2, step=0.05, description="repetition penalty", **wide
        ),
        "max_new_tokens": ipywidgets.IntSlider(
            usual.max_new_tokens, min=1, max=1000, description="tokens at most", **wide
        ),
        "seed": ipywidgets.IntText(usual.seed, description="seed"),
        "beams": ipywidgets.IntSlider(usual.beams, min=1, max=10, description="beams"),
    }


def fine_print(text: str) -> ipywidgets.HTML:
    """Make a line of small print."""
    return ipywidgets.HTML(SMALL.format(html.escape(text)))


def turn(pictures: int, question: str, answer: str, pace: str = "") -> str:
    """Return one turn as HTML, with its speed once it is complete; question and answer are escaped."""
    seen = "🖼 " * pictures
    text = html.escape(answer).replace("\n", "<br>")
    if pace:
        text += SMALL.format(pace)
    asked = BUBBLE.format("6px 0 6px 12%", "--jp-brand-color4", "You", seen + html.escape(question))
    return asked + BUBBLE.format("6px 12% 6px 0", "--jp-layout-color2", "MiniGPT-4", text)


def thumbnail(image: Image.Image) -> ipywidgets.Image:
    """Make a small copy to show."""
    small, file = image.copy(), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(file, "JPEG")
    return ipywidgets.Image(
        value=file.getvalue(),
        format="jpeg",
        layout={"max_height": "200px", "margin": "4px", "align_self": "flex-start"},  # its own proportions
    )
