"""A tiny random model to talk to, and the commands that talk to it."""

import pytest
import torch
from tiny_chat import LINES

from mglib.__main__ import main
from mglib.chat import chat_model as chat_models
from mglib.chat.chat_model import ChatModel


@pytest.fixture(scope="module")
def chat_model(model, vision_config):
    """Return a tiny model whose answers depend on the pictures."""
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)
    return ChatModel(model=tiny, turns=LINES, vision=vision_config)


@pytest.fixture
def run(monkeypatch, chat_model):
    """Return a function that runs a command with that model and returns the exit status."""
    monkeypatch.setattr(chat_models, "load", lambda settings, projection=None: chat_model)
    return lambda *words: main([str(word) for word in words])
