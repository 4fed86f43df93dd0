"""A checkpoint as the published Edge Pruning code saves it, and the edges it takes from one: written
anew in torch, gate by gate, after `modeling_fpt2.py`, `modeling_fllama.py`, `l0.py` and `vis_*.py`."""

import math
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

PREFIX = {"gpt2": "transformer.h", "llama": "model.layers", "tracr": "Erazr_model.blocks"}


class Checkpoint:
    """Random log-alphas of `layers` layers. `embeddings` counts embedding writers (0: none)."""

    def __init__(self, family: str, layers: int, heads: int, kv: int, embeddings: int, seed: int = 0) -> None:
        self.family, self.layers, self.heads, self.kv = family, layers, heads, kv
        self.offset = embeddings
        self.writers = embeddings + layers * (heads + 1)
        generator = torch.Generator().manual_seed(seed)

        def gates(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) * 5 + 1

        self.q = [gates(self.writers, heads) for _ in range(layers)]
        self.k = [gates(self.writers, kv) for _ in range(layers)]
        self.v = [gates(self.writers, kv) for _ in range(layers)]
        self.mlp = [gates(self.writers) for _ in range(layers)]
        self.head_out = [gates(heads) + 4 for _ in range(layers)]
        self.mlp_out = [gates(1) + 4 for _ in range(layers)]
        self.final = gates(self.writers)
        self.embedding_out = [gates(1) + 4 for _ in range(embeddings)]

    def tensors(self) -> dict[str, Tensor]:
        prefix, root = PREFIX[self.family], PREFIX[self.family].split(".")[0]
        tracr = self.family == "tracr"
        attn, mlp = ("attn.", "mlp.") if tracr else ("", "")
        found = {f"{root}.wte.weight": torch.zeros(3, 2)}
        for n in range(self.layers):
            for part, values in (("q", self.q), ("k", self.k), ("v", self.v)):
                found[f"{prefix}.{n}.{attn}{part}_read_log_alphas"] = values[n]
            found[f"{prefix}.{n}.{mlp}mlp_read_log_alphas"] = self.mlp[n]
            found[f"{prefix}.{n}.{'attn.' if tracr else 'attn_'}write_log_alphas"] = self.head_out[n]
            found[f"{prefix}.{n}.{mlp}mlp_write_log_alphas"] = self.mlp_out[n].reshape(() if tracr else (1,))
        found[f"{root}.final_read_log_alpha{'' if tracr else 's'}"] = self.final
        for name, values in zip(("token", "pos"), self.embedding_out, strict=False):
            found[f"{root}.{name}_write_log_alpha"] = values.reshape(() if tracr else (1,))
        return found

    def save(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        save_file({name: tensor.to(dtype).contiguous() for name, tensor in self.tensors().items()}, path)

    def edges(self, edge_sparsity: float | None = None) -> list[tuple[str, str]]:
        """What `get_edges` returns after the two bisections (fixed thresholds for Tracr)."""
        parts = [(part, n) for n in range(self.layers) for part in "qkvm"]
        read = {"q": self.q, "k": self.k, "v": self.v, "m": self.mlp}
        soft = partial(deterministic, eps=1e-8 if self.family == "llama" else 1e-6)
        masks = {(part, n): soft(read[part][n])[: self._seen(part, n)] for part, n in parts}
        masks["f", 0] = soft(self.final)
        outs = [[soft(self.head_out[n]), soft(self.mlp_out[n])] for n in range(self.layers)]
        tokens = [soft(values) for values in self.embedding_out]
        counted = [*tokens[:1], *(mask for pair in outs for mask in pair)]
        if self.family == "tracr":
            edge_cut = node_cut = 0.005
        else:
            edge_cut = bisect(list(masks.values()), edge_sparsity)
            node_cut = bisect(counted, None)
        open_writers = [mask.item() > node_cut for mask in tokens]
        for heads, mlp in outs:
            open_writers += [value > node_cut for value in heads.tolist()] + [mlp.item() > node_cut]
        names = self._writer_names()
        found = []
        for (part, n), mask in masks.items():
            columns = mask if mask.dim() == 2 else mask[:, None]
            for writer in range(columns.shape[0]):
                for head in range(columns.shape[1]):
                    if open_writers[writer] and columns[writer, head] > edge_cut:
                        reader = {"m": f"m{n}", "f": "resid_post"}.get(part, f"a{n}.h{head}.{part}")
                        found.append((names[writer], reader))
        return found

    def _seen(self, part: str, layer: int) -> int:
        return self.offset + layer * (self.heads + 1) + (self.heads if part == "m" else 0)

    def _writer_names(self) -> list[str]:
        first = {0: [], 1: ["embeds"], 2: ["tok_embeds", "pos_embeds"]}[self.offset]
        layers = [[*(f"a{n}.h{h}" for h in range(self.heads)), f"m{n}"] for n in range(self.layers)]
        return [*first, *(name for layer in layers for name in layer)]


def deterministic(log_alpha: Tensor, eps: float = 1e-6) -> Tensor:
    below = math.log(0.1 / 1.2) - math.log(1 - 0.1 / 1.2)
    zero = torch.sigmoid(2 / 3 * below - log_alpha).clamp(eps, 1 - eps)
    zeros = int(torch.round(log_alpha.numel() - torch.sum(1 - zero)).item())
    soft = torch.sigmoid(log_alpha / (2 / 3) * 0.8).reshape(-1)
    if zeros > 0:
        soft[torch.topk(soft, k=zeros, largest=False).indices] = 0
    return soft.reshape(log_alpha.shape)


def bisect(masks: list[Tensor], sparsity: float | None) -> float:
    size = sum(mask.numel() for mask in masks)
    target = 1 - sum(float(mask.sum()) for mask in masks) / size if sparsity is None else sparsity
    low, high, middle = 0.0, 1.0, 0.5
    while high - low > 1e-5:
        middle = (low + high) / 2
        cut = 1 - sum(int((mask > middle).sum()) for mask in masks) / size
        low, high = (low, middle) if cut > target else (middle, high)
    return middle
