"""What a backbone of timm may be made with (`model.args`), and where what it may not be made with is set instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Le

from common.bounds import About, Count, Flag, Natural, Pixels, Positive, Width, hints
from common.errors import nearest
from common.schema import faults, settings, shown

AttentionType = Literal["eva", "rope"]


@settings
class Arguments:
    """What a backbone may be made with: all that changes the network as it is run here, and nothing of a file.

    timm's two families of vision transformers call registers, and norms in the MLP, by names of their own.
    """

    patch_size: Annotated[Count, Le(256), About("side of a patch in pixels")] = 16
    embed_dim: Annotated[Width, About("width of the tokens")] = 384
    depth: Annotated[Count, Le(200), About("number of blocks")] = 12
    num_heads: Annotated[Count, Le(1000), About("heads of the attention")] = 6
    mlp_ratio: Annotated[Positive, Le(64), About("width of the MLP, in widths of the tokens")] = 4.0
    qkv_bias: Annotated[Flag, About("biases of the attention's queries, keys and values")] = True
    attn_type: Annotated[
        AttentionType,
        About(
            "of rotary models; `eva`: the biases of the keys are masked, so they stay 0; `rope`: they are trained as "
            "those of queries and values are"
        ),
    ] = "eva"
    qk_norm: Annotated[Flag, About("queries and keys are normalised")] = False
    swiglu_mlp: Annotated[Flag, About("a SwiGLU in place of the MLP")] = False
    swiglu_align_to: Annotated[Natural, Le(2**12), About("the width of the SwiGLU is a multiple of it, 0 = any")] = 0
    scale_mlp: Annotated[Flag, About("a norm inside the MLP")] = False
    init_values: Annotated[Positive, About("start of LayerScale")] = 1e-5
    class_token: Annotated[Flag, About("a class token; the mean of the patches takes its place")] = True
    num_reg_tokens: Annotated[Natural, Le(1000), About("register tokens, of rotary models")] = 4
    reg_tokens: Annotated[Natural, Le(1000), About("register tokens, of models with learned positions")] = 0
    rope_temperature: Annotated[Positive, About("base of RoPE's periods")] = 100.0
    img_size: Annotated[Pixels, About("side in pixels whose patches the table of learned positions holds")] = 224
    no_embed_class: Annotated[Flag, About("learned positions of patches alone, not of the tokens before them")] = False
    pre_norm: Annotated[Flag, About("a norm before the blocks, as in CLIP")] = False


ALWAYS = "every model here has it; leave it out"
ELSEWHERE = {
    **dict.fromkeys(("checkpoint_path", "pretrained", "cache_dir"), "no file is read for it; see trunk.checkpoint"),
    **dict.fromkeys(("dynamic_img_size", "use_rot_pos_emb", "global_pool"), ALWAYS),
    **{f"rope_{name}_coords": f"want model.rope_{name}" for name in ("shift", "jitter", "rescale")},
    "drop_path_rate": "want model.drop_path",
    "in_chans": "images have three channels; leave it out",
}


def refused(args: Mapping[str, Any]) -> Iterator[str]:
    """Arguments that there are not, or that timm would take for something else, a line each that begins with one."""
    known = hints(Arguments)
    for name in (name for name in args if name not in known):
        hint = ELSEWHERE.get(name) or nearest(name, known, otherwise="leave it out")
        yield f"{name}={shown(args[name])}: want one of {', '.join(known)}; {hint}"
    yield from faults(Arguments, {name: value for name, value in args.items() if name in known})
