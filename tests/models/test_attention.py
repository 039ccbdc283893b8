"""Z' against a plain float64 computation and against diffusers' own processor."""

import pytest
import torch
from bolid.models.attention import DecoupledAttnProcessor, KeyValue
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from torch import Tensor

BATCH, POSITIONS, TEXT, WIDTH, CROSS, HEADS = 2, 9, 7, 16, 12, 4


def layer(**options: object) -> Attention:
    torch.manual_seed(0)
    return Attention(WIDTH, CROSS, heads=HEADS, dim_head=WIDTH // HEADS, **options)


def inputs() -> tuple[Tensor, Tensor, list[Tensor]]:
    torch.manual_seed(1)
    conditions = [torch.randn(BATCH, 4, CROSS), torch.randn(BATCH, 6, CROSS)]
    return torch.randn(BATCH, POSITIONS, WIDTH), torch.randn(BATCH, TEXT, CROSS), conditions


def branches() -> list[KeyValue]:
    torch.manual_seed(2)
    return [KeyValue(CROSS, WIDTH) for _ in range(2)]


def plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention head by head and position by position."""
    output = torch.zeros_like(query)
    size = WIDTH // HEADS
    for b in range(BATCH):
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            for i in range(POSITIONS):
                scores = (key[b, :, part] @ query[b, i, part]) / size**0.5
                weights = torch.exp(scores) / torch.exp(scores).sum()
                output[b, i, part] = weights @ value[b, :, part]
    return output


def test_the_sum_of_branches_equals_the_formula_in_float64() -> None:
    attn, (x, text, conditions), kv = layer().double(), inputs(), [b.double() for b in branches()]
    x, text, conditions = x.double(), text.double(), [c.double() for c in conditions]
    scales = (0.7, 0.4)
    query = x @ attn.to_q.weight.T
    expected = plain_attention(query, text @ attn.to_k.weight.T, text @ attn.to_v.weight.T)
    for scale, tokens, matrices in zip(scales, conditions, kv, strict=True):
        key, value = tokens @ matrices.to_k_ip.weight.T, tokens @ matrices.to_v_ip.weight.T
        expected = expected + scale * plain_attention(query, key, value)
    expected = expected @ attn.to_out[0].weight.T + attn.to_out[0].bias

    attn.set_processor(DecoupledAttnProcessor(kv, scales))
    torch.testing.assert_close(attn(x, (text, conditions)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"residual_connection": True, "rescale_output_factor": 2.0}])
@pytest.mark.parametrize("four_dimensions", [False, True])
def test_equals_the_processor_of_diffusers_to_the_bit(options: dict[str, object], four_dimensions: bool) -> None:
    attn, (x, text, conditions), kv = layer(**options), inputs(), branches()
    if four_dimensions:
        x = x.transpose(1, 2).reshape(BATCH, WIDTH, 3, 3)
    stock = IPAdapterAttnProcessor2_0(WIDTH, CROSS, num_tokens=[4, 6], scale=[0.7, 0.4])
    for index, matrices in enumerate(kv):
        stock.to_k_ip[index].load_state_dict(matrices.to_k_ip.state_dict())
        stock.to_v_ip[index].load_state_dict(matrices.to_v_ip.state_dict())
    attn.set_processor(stock)
    expected = attn(x, (text, [c.unsqueeze(1) for c in conditions]))
    attn.set_processor(DecoupledAttnProcessor(kv, (0.7, 0.4)))
    assert torch.equal(attn(x, (text, conditions)), expected)


def test_a_text_mask_acts_on_text_only() -> None:
    attn, (x, text, conditions), kv = layer(), inputs(), branches()
    mask = torch.zeros(BATCH, 1, TEXT)
    mask[:, :, 4:] = -10_000.0
    attn.set_processor(DecoupledAttnProcessor(kv))
    masked, shortened = attn(x, (text, conditions), attention_mask=mask), attn(x, (text[:, :4], conditions))
    torch.testing.assert_close(masked, shortened)


@pytest.mark.parametrize("given", ["zero scales", "no tokens"])
def test_nothing_added_gives_the_base_to_the_bit(given: str) -> None:
    attn, (x, text, conditions), kv = layer(), inputs(), branches()
    base = attn(x, text)
    if given == "zero scales":
        attn.set_processor(DecoupledAttnProcessor(kv, (0, 0)))
        assert torch.equal(attn(x, (text, [c * torch.nan for c in conditions])), base)
    else:
        attn.set_processor(DecoupledAttnProcessor(kv))
        assert torch.equal(attn(x, text), base)


def test_one_scale_at_zero_leaves_the_other_branch() -> None:
    attn, (x, text, conditions), kv = layer(), inputs(), branches()
    attn.set_processor(DecoupledAttnProcessor(kv, (0, 0.4)))
    both = attn(x, (text, conditions))
    attn.set_processor(DecoupledAttnProcessor(kv[1:], (0.4,)))
    assert torch.equal(both, attn(x, (text, conditions[1:])))


def test_several_pictures_are_more_keys() -> None:
    attn, (x, text, conditions), kv = layer(), inputs(), branches()[:1]
    attn.set_processor(DecoupledAttnProcessor(kv))
    stacked = conditions[0].unflatten(1, (2, 2))
    assert torch.equal(attn(x, (text, [stacked])), attn(x, (text, conditions[:1])))


def test_key_and_value_start_as_copies_of_the_text_branch() -> None:
    attn = layer()
    copied = KeyValue.copy_of_text_branch(attn)
    assert torch.equal(copied.to_k_ip.weight, attn.to_k.weight)
    assert torch.equal(copied.to_v_ip.weight, attn.to_v.weight)
    assert copied.to_k_ip.weight.data_ptr() != attn.to_k.weight.data_ptr()


def test_counts_must_agree() -> None:
    attn, (x, text, conditions), kv = layer(), inputs(), branches()
    with pytest.raises(ValueError, match="1 scales for 2"):
        DecoupledAttnProcessor(kv, (1.0,))
    attn.set_processor(DecoupledAttnProcessor(kv))
    with pytest.raises(ValueError, match="1 conditions for 2"):
        attn(x, (text, conditions[:1]))


def test_masks_act_as_in_the_processor_of_diffusers_to_the_bit() -> None:
    attn, (x, text, conditions), kv = layer(), inputs(), branches()
    masks = [torch.rand(1, 1, 6, 6), torch.rand(1, 1, 12, 12)]  # of pictures that the layer sees as 3 × 3
    stock = IPAdapterAttnProcessor2_0(WIDTH, CROSS, num_tokens=[4, 6], scale=[0.7, 0.4])
    for index, matrices in enumerate(kv):
        stock.to_k_ip[index].load_state_dict(matrices.to_k_ip.state_dict())
        stock.to_v_ip[index].load_state_dict(matrices.to_v_ip.state_dict())
    attn.set_processor(stock)
    expected = attn(x, (text, [c.unsqueeze(1) for c in conditions]), ip_adapter_masks=masks)
    attn.set_processor(DecoupledAttnProcessor(kv, (0.7, 0.4)))
    everywhere = attn(x, (text, conditions))
    masked = attn(x, (text, conditions), ip_adapter_masks=masks)
    assert torch.equal(masked, expected)
    assert not torch.equal(masked, everywhere)
    nowhere = attn(x, (text, conditions), ip_adapter_masks=[torch.zeros(1, 1, 3, 3)] * 2)
    assert torch.equal(nowhere, attn(x, text))
    each = [torch.stack([torch.ones(1, 3, 3), torch.zeros(1, 3, 3)])] * 2  # the first picture only
    assert torch.equal(attn(x, (text, conditions), ip_adapter_masks=each)[1], nowhere[1])
    torch.testing.assert_close(attn(x, (text, conditions), ip_adapter_masks=each)[0], everywhere[0])
    with pytest.raises(ValueError, match="1 masks for 2"):
        attn(x, (text, conditions), ip_adapter_masks=masks[:1])
    with pytest.raises(ValueError, match=r"not \(6, 6\)"):
        attn(x, (text, conditions), ip_adapter_masks=[masks[0][0, 0], None])


def test_low_rank_matrices_are_the_frozen_ones_plus_a_product() -> None:
    attn, (_, _, conditions) = layer(), inputs()
    small, whole = KeyValue.low_rank(attn, 3), KeyValue.copy_of_text_branch(attn)
    assert all(torch.equal(a, b) for a, b in zip(small(conditions[0]), whole(conditions[0]), strict=True))
    assert sum(p.numel() for p in small.parameters()) == 2 * 3 * (CROSS + WIDTH)
    torch.manual_seed(3)
    for matrix in (small.to_k_ip, small.to_v_ip):
        torch.nn.init.normal_(matrix.up.weight)
    changed = attn.to_k.weight.double() + small.to_k_ip.up.weight.double() @ small.to_k_ip.down.weight.double()
    torch.testing.assert_close(small.matrices()["to_k_ip.weight"].double(), changed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        small(conditions[0])[0].double(), conditions[0].double() @ changed.T, rtol=1e-5, atol=1e-5
    )
    assert small.state_dict().keys() == {f"to_{m}_ip.{part}.weight" for m in "kv" for part in ("up", "down")}
