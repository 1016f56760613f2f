"""The Q-Former: queries read a picture; the text branch leaves their path alone."""

import pytest
import torch

from mglib.model.qformer import standardise


@pytest.fixture
def tokens(random):
    return torch.randn(2, 5, 64, generator=random)


def test_every_query_depends_on_the_picture(qformer, tokens):
    tiny = qformer()
    one, other = tiny(tokens)
    assert ((one - other).abs().amax(-1) > 1e-4).all()


def test_pictures_of_a_batch_do_not_mix(qformer, tokens):
    tiny = qformer()
    torch.testing.assert_close(tiny(tokens)[:1], tiny(tokens[:1]))


def test_the_number_of_vision_tokens_is_free(qformer, random):
    assert qformer()(torch.randn(1, 17, 64, generator=random)).shape == (1, 3, 32)


def test_attention_maps_are_given_for_each_layer_that_looks_and_sum_to_one(qformer, tokens):
    tiny = qformer(attention="eager")
    queries, maps = tiny(tokens, output_attentions=True)
    maps = [weights for weights in maps if weights is not None]
    assert len(maps) == 1  # two layers, every second one looks at the picture
    assert maps[0].shape == (2, 4, 3, 5)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 4, 3))
    assert torch.equal(queries, tiny(tokens))


def test_both_attentions_compute_the_same(qformer, tokens):
    torch.testing.assert_close(qformer(attention="eager")(tokens), qformer(attention="sdpa")(tokens))


def test_a_dropped_text_branch_leaves_the_queries_as_they_were(qformer, tokens):
    full, bare = qformer(vocabulary=300), qformer(seed=1)
    state, own = full.state_dict(), bare.state_dict()
    assert own.keys() < state.keys()
    assert all(own[name].shape == state[name].shape for name in own)
    assert not torch.allclose(full(tokens), bare(tokens))
    bare.load_state_dict({name: state[name] for name in own})
    assert torch.equal(full(tokens), bare(tokens))


def test_a_configuration_loses_only_its_text_branch(qformer):
    config = qformer(vocabulary=300).config
    assert config.without_text() == qformer().config


def test_vision_tokens_are_normalised_in_full_precision(qformer, tokens):
    seen = qformer().see(5 + 3 * tokens.bfloat16())
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(-1, correction=0), torch.ones(2, 5), atol=1e-4, rtol=0)


def test_training_mode_drops_nothing_out(qformer, tokens):
    assert torch.equal(qformer().train()(tokens), qformer().eval()(tokens))


def test_what_all_pictures_share_can_be_taken_out(qformer, random):
    tiny = qformer()
    tokens = 5 + 3 * torch.randn(1, 1, 64, generator=random) + torch.randn(20, 5, 64, generator=random)
    standardise(tiny.ln_vision, tokens)
    seen = tiny.see(tokens).flatten(0, 1)
    torch.testing.assert_close(seen.mean(0), torch.zeros(64), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.ones(64), atol=1e-4, rtol=0)
