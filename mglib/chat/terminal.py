"""`make chat`: chat about a picture in a terminal."""

from PIL import Image

from mglib.chat.chat_model import ChatModel
from mglib.chat.conversation import Conversation
from mglib.data.pictures import picture, typed_path
from mglib.errors import sentence
from mglib.model.decoding import Decoding

USAGE = 'make chat IMAGE=picture.jpg QUESTION="What is this?", or without a question for a conversation.'


def typed_picture(image: str | None) -> tuple[str, Image.Image]:
    """Open the picture that the user named; returns its file name too."""
    if not image:
        raise ValueError(f"No picture is named: {USAGE}")
    file = typed_path(image)
    return file.name, picture(file)


def talk_about(
    chat_model: ChatModel, name: str, image: Image.Image, decoding: Decoding, *, question: str | None = None
) -> None:
    """Talk about a picture: one question, or a conversation."""
    print(f"Weights: {chat_model.weights()}.")
    talk = Conversation(chat_model)
    try:
        show(talk, name, image)
        if question:
            say(talk, question, decoding)
        else:
            terminal(talk, decoding)
    except (EOFError, KeyboardInterrupt):  # ctrl-d and ctrl-c end a conversation too
        print()


def terminal(talk: Conversation, decoding: Decoding) -> None:
    """Continue a conversation until an empty line; `/show FILE` adds a picture, `/clear` forgets all."""
    print("Ask about the picture; /show FILE adds another, /clear forgets all, an empty line ends.")
    while line := input("You: ").strip():
        try:
            if line == "/clear":
                talk.clear()
            elif line.split()[0] == "/show":
                show(talk, *typed_picture(line.removeprefix("/show")))
            else:
                say(talk, line, decoding)
        except Exception as error:  # the conversation goes on
            print(sentence(error, "chat"))


def show(talk: Conversation, name: str, image: Image.Image) -> None:
    """Add a picture to the next question, and print what was read."""
    talk.show(image)
    print(f"Picture: {talk.chat_model.sees(image, name)}.")


def say(talk: Conversation, question: str, decoding: Decoding) -> None:
    """Print an answer as it streams, then its speed."""
    print("MiniGPT-4: ", end="", flush=True)
    for piece in talk.ask(question, decoding):
        print(piece, end="", flush=True)
    print(f"\n({talk.history[-1].pace()})")
