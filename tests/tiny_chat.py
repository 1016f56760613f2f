"""Shared by the chat tests: a picture, a tiny model's turns, and a conversation with it."""

from PIL import Image

from mglib.chat.conversation import Conversation
from mglib.model.dialogue import Turns
from mglib.model.prompts import Template

END = "zz"  # rare, and never one token of the tiny tokenizer
LINES = Turns(first=Template(name="lines", bos=True, turn="q {} a ", end=END), following=f"{END}\nq {{}} a ")


def picture(color="red", size=(40, 30)):
    image = Image.new("RGB", size, color)
    image.paste("blue", (0, 0, size[0] // 2, size[1] // 2))
    return image


def shown(chat_model, *images):
    """Return a conversation about pictures, by default about one."""
    talk = Conversation(chat_model)
    for image in images or [picture()]:
        talk.show(image)
    return talk


def say(talk, question, decoding=None):
    return "".join(talk.ask(question, decoding))
