"""`make chat`: talking about a picture in a terminal."""

from collections.abc import Callable

from PIL import Image

from mglib.chat.chat_model import ChatModel
from mglib.chat.conversation import Conversation
from mglib.data.pictures import picture, typed_path
from mglib.errors import sentence
from mglib.model.decoding import Decoding

USAGE = 'make chat IMAGE=picture.jpg QUESTION="What is this?", or without a question for a conversation.'


def talk_about(
    image: str | None,
    load: Callable[[], ChatModel],
    decode: Callable[[ChatModel], Decoding],
    *,
    question: str | None = None,
    read: Callable[[str], str] = input,
) -> None:
    """Talk about a picture: one question, or a conversation. It is opened before `load` makes the model,
    which takes a while.
    """
    if not image:
        raise ValueError(f"No picture is named: {USAGE}")
    file = typed_path(image)
    shown, chat_model = picture(file), load()
    print(f"Weights: {chat_model.weights()}.")
    talk, decoding = Conversation(chat_model), decode(chat_model)
    try:
        show(talk, shown, file.name)
        if question:
            say(talk, question, decoding)
        else:
            terminal(talk, decoding, read=read)
    except (EOFError, KeyboardInterrupt):  # ctrl-d and ctrl-c end a conversation too
        print()


def terminal(talk: Conversation, decoding: Decoding, *, read: Callable[[str], str] = input) -> None:
    """Go on with a conversation until an empty line; `/show FILE` adds a picture, `/clear` forgets all."""
    print("Ask about the picture; /show FILE adds another, /clear forgets all, an empty line ends.")
    while line := read("You: ").strip():
        try:
            if line == "/clear":
                talk.clear()
            elif line.startswith("/show "):
                file = typed_path(line.removeprefix("/show "))
                show(talk, picture(file), file.name)
            else:
                say(talk, line, decoding)
        except Exception as error:  # the conversation goes on
            print(sentence(error, "chat"))


def show(talk: Conversation, image: Image.Image, name: str) -> None:
    """Give a picture to the next question, and print what was read."""
    talk.show(image)
    print(f"Picture: {talk.chat_model.sees(image, name)}.")


def say(talk: Conversation, question: str, decoding: Decoding) -> None:
    """Print an answer while it comes, then its pace."""
    print("MiniGPT-4: ", end="", flush=True)
    for piece in talk.ask(question, decoding):
        print(piece, end="", flush=True)
    print(f"\n({talk.history[-1].pace()})")
