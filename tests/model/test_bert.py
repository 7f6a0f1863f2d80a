"""model/bert.py against transformers' BertModel, and against itself."""

import json
from pathlib import Path

import pytest
import torch

from model.bert import BertConfig, BertEncoder, attend, eager_attention, padding_bias, sdpa_attention
from model.dropout import Dropout
from model.pretrained import load_encoder
from tests.conftest import small_encoder, write_checkpoint

FIXTURE = Path(__file__).parent.parent / "fixtures" / "all_minilm_hidden_states.json"
SHAPES = [(2, 128, 2), (6, 384, 12), (12, 768, 12)]  # layers, width, heads


def random_batch(vocabulary: int, seed: int = 1):
    """tokens, types, mask of 4 rows: full, slightly padded, mostly padding, one token."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocabulary, (4, 50), generator=generator)
    types = torch.randint(0, 2, (4, 50), generator=generator)
    mask = torch.arange(50) < torch.tensor([50, 43, 5, 1])[:, None]
    return tokens, types, mask


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layers,width,heads", SHAPES)
def test_hidden_states_equal_transformers_on_random_weights(tmp_path, checkpoint, layers, width, heads, attention):
    transformers = pytest.importorskip("transformers")
    encoder = small_encoder(
        num_layers=layers, hidden_size=width, num_heads=heads, intermediate_size=2 * width, vocab_size=500
    )
    folder = write_checkpoint(tmp_path, encoder, checkpoint)
    reference = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ours, _ = load_encoder(str(folder), attention=attention)
    _assert_equal(ours.eval(), reference, *random_batch(500))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_hidden_states_equal_transformers_on_the_real_checkpoint(checkpoint, attention):
    transformers = pytest.importorskip("transformers")
    reference = transformers.BertModel.from_pretrained(checkpoint, add_pooling_layer=False).eval()
    ours, _ = load_encoder("all-MiniLM-L6-v2", attention=attention)
    _assert_equal(ours.eval(), reference, *random_batch(30522))


def test_hidden_states_equal_transformers_distilbert(tmp_path, checkpoint):
    transformers = pytest.importorskip("transformers")
    encoder = small_encoder(vocab_size=500, token_types=0)
    folder = write_checkpoint(tmp_path, encoder, checkpoint, family="distilbert")
    reference = transformers.DistilBertModel.from_pretrained(folder).eval()
    ours, _ = load_encoder(str(folder))
    tokens, _, mask = random_batch(500)
    with torch.no_grad():
        expected = reference(tokens, attention_mask=mask.long()).last_hidden_state
        assert (ours.eval()(tokens, None, mask) - expected)[mask].abs().max() < 1e-5


def _assert_equal(ours, reference, tokens, types, mask):
    with torch.no_grad():
        padded = reference(tokens, attention_mask=mask.long(), token_type_ids=types).last_hidden_state
        plain = reference(tokens, token_type_ids=types).last_hidden_state
        no_types = reference(tokens).last_hidden_state
        assert (ours(tokens, types, mask) - padded)[mask].abs().max() < 1e-5
        assert (ours(tokens, types) - plain).abs().max() < 1e-5
        assert (ours(tokens) - no_types).abs().max() < 1e-5


def test_hidden_states_equal_the_recorded_ones_of_transformers(checkpoint):
    """The fixture holds what transformers computed; see its "how". So parity is checked without that library too."""
    recorded = json.loads(FIXTURE.read_text())
    encoder, _ = load_encoder("all-MiniLM-L6-v2")
    tokens, types, mask = random_batch(30522)
    with torch.no_grad():
        hidden = encoder.eval()(tokens, types, mask)
    for row, position, values in recorded["hidden"]:
        assert (hidden[row, position, :8] - torch.tensor(values)).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_eager_attention_equals_sdpa(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 4, 24, 16).to(dtype) for _ in range(3))
    bias = padding_bias(torch.arange(24) < torch.tensor([24, 9, 0])[:, None])
    off = Dropout(0.0)
    difference = eager_attention(q, k, v, bias, off) - sdpa_attention(q, k, v, bias, off)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    assert difference[:2].abs().max() < tolerance  # row 2 is all padding: finite in both, see below


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", [eager_attention, sdpa_attention])
def test_a_row_of_nothing_but_padding_is_finite(attention, dtype):
    q, k, v = (torch.randn(1, 2, 8, 16).to(dtype) * 8 for _ in range(3))
    bias = padding_bias(torch.zeros(1, 8, dtype=torch.bool))
    assert attention(q, k, v, bias, Dropout(0.0)).isfinite().all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_changes_nothing(attention):
    encoder = small_encoder(attention=attention).eval()
    tokens = torch.randint(0, 30000, (2, 20))
    mask = torch.ones(2, 20, dtype=torch.bool)
    wider = torch.nn.functional.pad(tokens, (0, 28))
    wider_mask = torch.nn.functional.pad(mask, (0, 28))
    with torch.no_grad():
        assert (encoder(wider, None, wider_mask)[:, :20] - encoder(tokens)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "dtype,grad,dropout,chosen",
    [
        (torch.float32, True, 0.0, sdpa_attention),
        (torch.bfloat16, True, 0.0, eager_attention),
        (torch.float32, True, 0.1, eager_attention),
        (torch.bfloat16, False, 0.1, sdpa_attention),
    ],
)
def test_attention_is_chosen_by_precision_gradients_and_dropout(dtype, grad, dropout, chosen):
    q = torch.zeros(1, 1, 1, 1, dtype=dtype)
    with torch.set_grad_enabled(grad):
        assert attend("auto", q, Dropout(dropout).train()) is chosen
        assert attend("eager", q, Dropout(dropout)) is eager_attention


def test_the_output_of_lower_layers_can_be_given(checkpoint):
    encoder, batch = small_encoder(num_layers=3).eval(), random_batch(100)
    lower = encoder(*batch, depth=2)
    assert not torch.equal(lower, encoder(*batch))
    assert torch.equal(encoder(*batch, below=(2, lower)), encoder(*batch))


def kept_bytes(encoder: BertEncoder, batch) -> tuple[int, torch.Tensor, list[torch.Tensor]]:
    """Bytes that a forward pass keeps for the backward pass, beside parameters; its output; the gradients."""
    kept, own = {}, {p.untyped_storage().data_ptr() for p in encoder.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = encoder(*batch)
    encoder.zero_grad()
    output.square().sum().backward()
    return sum(kept.values()), output, [p.grad for p in encoder.parameters() if p.grad is not None]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_recomputing_keeps_less_and_gives_the_same_bits(attention):
    """Dropout included, that on the attention probabilities too."""
    batch, found = random_batch(100), []
    for recompute in (False, True):
        torch.manual_seed(1)
        encoder = small_encoder(attention=attention, recompute=recompute, dropout=0.1, attention_dropout=0.1).train()
        found.append(kept_bytes(encoder, batch))
    (kept, output, gradients), (kept_less, output_again, gradients_again) = found
    assert kept_less < (0.7 if attention == "eager" else 0.95) * kept
    assert torch.equal(output, output_again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_again, strict=True))


def test_more_tokens_than_positions_is_an_error():
    encoder = small_encoder(max_positions=16)
    with pytest.raises(IndexError, match="17 tokens, but the encoder has 16"):
        encoder(torch.zeros(1, 17, dtype=torch.long))


def test_there_is_no_pooler():
    names = dict(BertEncoder(BertConfig(num_layers=1)).named_parameters())
    assert not [name for name in names if "pool" in name]


# ---- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_stated_share(p):
    torch.manual_seed(0)
    dropout = Dropout(p).train()
    y = dropout(torch.ones(1_000_003))  # not a multiple of 8
    share = max(1, round(256 * p)) / 256
    assert abs((y == 0).float().mean().item() - share) < 0.002
    assert abs(y.mean().item() - 1) < 0.01
    assert len(y.unique()) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dropout_is_unbiased_in_16_bit(dtype):
    """With the scale rounded to bf16 before the product, every survivor would be 0.33 % too small."""
    torch.manual_seed(0)
    x = (torch.rand(1_000_000) + 0.5).to(dtype)
    y = Dropout(0.1).train()(x)
    kept = y != 0
    assert (y[kept].double().mean() / x[kept].double().mean()).item() == pytest.approx(256 / 230, rel=3e-4)


def test_dropout_has_the_gradient_of_its_mask():
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.3).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_keeps_one_byte_for_each_element():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes), lambda _: None):
        Dropout(0.3).train()(torch.ones(1000, requires_grad=True))
    assert kept == [1000]


def test_dropout_is_the_identity_in_evaluation_mode_and_where_p_is_zero():
    x = torch.randn(100)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_dropout_repeats_with_the_generator():
    dropout, x = Dropout(0.5).train(), torch.ones(100)
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x))
    assert not torch.equal(first, dropout(x))


def test_dropout_is_where_bert_has_it(tmp_path):
    """After the embeddings, after each attention output and each MLP output: 1 + 2 per layer; attention apart."""
    encoder = small_encoder(num_layers=3, dropout=0.1, attention_dropout=0.2)
    rates = [module.p for module in encoder.modules() if isinstance(module, Dropout)]
    assert sorted(rates) == [0.1] * 7 + [0.2] * 3
