"""The names that published programs give to writers and readers, turned into ours.

Edge Pruning: `tok_embeds`, `embeds`, `a3.h2`, `a3.h2.q`, `resid_post`. ACDC and TransformerLens:
`blocks.3.attn.hook_result[:, :, 2]`, `blocks.3.hook_q_input[:, :, 2]`, `blocks.0.hook_resid_pre[:]`.
EAP-IG and MIB: `input`, `a3.h2<q>`, `logits`. Edge Pruning's script for ACDC: `head.3.2.q`, `mlp.3`.
"""

import re
from dataclasses import dataclass
from typing import Literal

JOINT = "embeds"  # all embeddings as one writer
EMBEDDINGS = {
    "tok_embeds": "tok_embeds", "token_embeds": "tok_embeds", "hook_embed": "tok_embeds", "wte": "tok_embeds",
    "pos_embeds": "pos_embeds", "position_embeds": "pos_embeds", "hook_pos_embed": "pos_embeds",
    "wpe": "pos_embeds",
    "embeds": JOINT, "embed": JOINT, "input": JOINT, "inputs": JOINT, "resid_pre": JOINT,
    "hook_resid_pre": JOINT,
}  # fmt: skip
OUTPUTS = frozenset({"resid_post", "hook_resid_post", "logits", "output"})
PLAIN = re.compile(r"m\d+|a\d+\.h\d+(\.[qkv])?")
HEAD = re.compile(r"head\.(\d+)\.(\d+)(?:\.([qkv]))?")
MLP = re.compile(r"mlp\.(\d+)")
PORT = re.compile(r"(a\d+\.h\d+)<([qkv])>")
INDEX = r"\s*(?:\[(?P<index>[^\]]*)\])?"
HOOK = re.compile(r"(?:blocks\.(?P<layer>\d+)\.)?(?:attn\.)?(?P<hook>hook_\w+)" + INDEX)
ADJACENT = re.compile(r"(?:blocks\.\d+\.(?:attn\.)?)?hook_\w+\s*(?:\[[^\]]*\])?")

Role = Literal["writer", "reader", "either", "inner"]


@dataclass(frozen=True)
class End:
    """One end of an edge. `inner` is a step inside a head or an MLP, which is no end of our edges;
    `layer` is told where it is known and decides something (the output's)."""

    name: str
    role: Role


def end_of(text: str) -> End | None:
    """None for a name of no known form."""
    text = text.strip()
    if text in EMBEDDINGS:
        return End(EMBEDDINGS[text], "writer")
    if text in OUTPUTS:
        return End("resid_post", "reader")
    if PLAIN.fullmatch(text):
        head = text.startswith("a")
        return End(text, ("reader" if text[-1] in "qkv" else "writer") if head else "either")
    if match := PORT.fullmatch(text):
        return End(f"{match[1]}.{match[2]}", "reader")
    if match := HEAD.fullmatch(text):
        part = f".{match[3]}" if match[3] else ""
        return End(f"a{match[1]}.h{match[2]}{part}", "reader" if part else "writer")
    if match := MLP.fullmatch(text):
        return End(f"m{match[1]}", "either")
    match = HOOK.fullmatch(text)
    return _hooked(match["layer"], match["hook"], match["index"]) if match else None


def ends_in(text: str) -> tuple[str, str] | None:
    """The two names of `a->b`, or of two hook names in one line; None for anything else."""
    for arrow in ("->", "<-"):
        if text.count(arrow) == 1:
            left, right = (part.strip() for part in text.split(arrow))
            return (left, right) if arrow == "->" else (right, left)
    found = ADJACENT.findall(text)
    return (found[0], found[1]) if len(found) == 2 else None


def _hooked(layer: str | None, hook: str, index: str | None) -> End | None:
    """A TransformerLens hook point; `index` is what stands in its brackets, such as `:, :, 2`."""
    if hook in ("hook_embed", "hook_pos_embed") and layer is None:
        return End(EMBEDDINGS[hook], "writer")
    if layer is None:
        return None
    if hook == "hook_resid_pre":
        return End(JOINT, "writer") if int(layer) == 0 else None
    match hook:
        case "hook_mlp_out":
            return End(f"m{layer}", "writer")
        case "hook_mlp_in" | "hook_resid_mid":
            return End(f"m{layer}", "reader")
        case "hook_resid_post":
            return End("resid_post", "reader")
    numbers = re.findall(r"\d+", index or "")
    if len(numbers) != 1:
        return None
    head = f"a{layer}.h{numbers[0]}"
    if hook == "hook_result":
        return End(head, "writer")
    if match := re.fullmatch(r"hook_([qkv])_input", hook):
        return End(f"{head}.{match[1]}", "reader")
    return End(head, "inner") if re.fullmatch(r"hook_[qkv]", hook) else None
