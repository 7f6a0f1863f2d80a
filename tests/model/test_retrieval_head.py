"""model/retrieval_head.py"""

import pytest
import torch

from model.heads import TaskModel
from model.retrieval_head import RetrievalHead
from tests.conftest import small_encoder


def side(seed: int, lengths: list[int]) -> dict:
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    tokens = torch.randint(1000, 2000, mask.shape) * mask
    return {"task": "main", "tokens": tokens, "types": torch.zeros_like(tokens), "mask": mask}


def pairs(passage: list[int], question: list[int] | None = None) -> dict:
    """A batch of pairs; the numbers say which passages, and which questions, are the same."""
    count = len(passage)
    numbers = {"passage": torch.tensor(passage), "question": torch.tensor(question or list(range(count)))}
    return {**side(0, [3 + n for n in range(count)]), **numbers, "pair": side(1, [20 - n for n in range(count)])}


@pytest.fixture
def model():
    return TaskModel(small_encoder(vocab_size=3000), {"main": RetrievalHead(temperature=0.1)}).eval()


def test_logits_are_cosines_over_temperature_and_losses_cross_entropy(model):
    batch = pairs([0, 1, 2, 3])
    logits, (questions, passages) = model(batch), (model(each) for each in (side(0, [3, 4, 5, 6]), batch["pair"]))
    assert torch.allclose(questions.norm(dim=1), torch.ones(4))
    cosines = torch.nn.functional.cosine_similarity(questions[:, None], passages[None], dim=2)
    assert torch.allclose(logits, cosines / 0.1, atol=1e-4)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(4), reduction="none")
    assert torch.allclose(model.head_of("main").loss(logits, batch), expected)


def test_a_vector_is_the_mean_over_the_real_tokens(model):
    alone = side(0, [5])
    hidden = model.encoder(alone["tokens"], alone["types"], None)
    assert torch.allclose(model(alone), torch.nn.functional.normalize(hidden.mean(1), dim=1), atol=1e-6)


@pytest.mark.parametrize("passage,question", [([7, 1, 7], None), ([0, 1, 2], [5, 6, 5])])
def test_what_answers_this_question_too_is_no_negative(model, passage, question):
    batch = pairs(passage, question)
    losses = model.head_of("main").loss(model(batch), batch).tolist()
    without = model(pairs([0, 1, 2]))
    assert losses[0] == pytest.approx((torch.logsumexp(without[0, [0, 1]], 0) - without[0, 0]).item(), abs=1e-5)
    assert losses[1] == pytest.approx((torch.logsumexp(without[1], 0) - without[1, 1]).item(), abs=1e-5)


def test_gradients_reach_the_encoder_through_questions_and_passages(model):
    batch = pairs([0, 1])
    model.head_of("main").loss(model(batch), batch).sum().backward()
    words = model.encoder.embeddings.word.weight.grad
    assert words[batch["tokens"][0, 0]].any() and words[batch["pair"]["tokens"][0, 0]].any()


def test_a_pair_alone_teaches_nothing(model):
    batch = pairs([0])
    assert model.head_of("main").loss(model(batch), batch).tolist() == [0.0]
