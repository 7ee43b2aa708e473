"""Export a fine-tuned embedded model to ONNX for the embedded engine. A test compares exports with their originals.

The graph takes new tokens and the keys and values of earlier ones, and an explicit mask, so that one call can score a
whole trie of labels. Only the logits that are asked for are computed: of some places, for some tokens.

    input_ids, position_ids   int64  (batch, new)
    mask                      bool   (batch, 1, new, past + new)   True where a token may attend
    past                      float  (layers, 2, batch, kv_heads, past, head_size)
    select                    int64  (batch, selected)             places in `new` whose logits are wanted
    vocabulary                int64  (tokens,)                     tokens whose logits are wanted
    logits                    float  (batch, selected, tokens)
    present                   float  (layers, 2, batch, kv_heads, new, head_size), of the new tokens alone

Weights become int8 in blocks of `BLOCK` inputs with a scale each, and so do activations while they are multiplied (onnxruntime's
MatMulNBits at accuracy level 4): row by row, so that a message's numbers do not depend on what is read beside it, as they
did with dynamic quantisation, which scales a whole pass by its greatest value. The tied embedding is stored once, as int8
rows with a scale each: a row serves look-up and output layer.

    python -m training.export_onnx --model FOLDER --out FILE
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

INPUTS = ["input_ids", "position_ids", "mask", "past", "select"]
BLOCK = 128


class CachedDecoder(torch.nn.Module):
    """The model with its cache as one plain tensor. Returns hidden states of the selected places, not yet logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model.model
        self.layers = model.config.num_hidden_layers

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, mask: torch.Tensor, past: torch.Tensor, select: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(past[layer, 0], past[layer, 1], layer)
        bias = torch.zeros(mask.shape, dtype=past.dtype).masked_fill(~mask, torch.finfo(past.dtype).min)
        hidden = self.model(input_ids=input_ids, position_ids=position_ids, attention_mask=bias, past_key_values=cache, use_cache=True)
        length = past.shape[4]
        present = torch.stack([torch.stack([layer.keys[:, :, length:], layer.values[:, :, length:]]) for layer in cache.layers])
        states = hidden.last_hidden_state
        chosen = torch.gather(states, 1, select[:, :, None].expand(-1, -1, states.shape[-1]))
        return chosen, present


def example_inputs(model: PreTrainedModel, *, past: int = 3, new: int = 5) -> tuple[torch.Tensor, ...]:
    """Random inputs of the graph with every axis longer than one."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    shape = (config.num_hidden_layers, 2, 2, config.num_key_value_heads, past, config.head_dim)
    causal = torch.ones(new, past + new, dtype=torch.bool).tril(past)
    return (
        torch.randint(3, config.vocab_size, (2, new), generator=generator),
        torch.arange(past, past + new).repeat(2, 1),
        causal.repeat(2, 1, 1, 1),
        torch.randn(shape, generator=generator) * 0.1,
        torch.tensor([[new - 1, 0, 2]]).repeat(2, 1),
    )


def export(model: PreTrainedModel, path: Path) -> None:
    """Write the int8 graph of a model to `path`."""
    model = model.float().eval()
    model.config._attn_implementation = "eager"
    decoder = CachedDecoder(model).eval()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = Path(folder) / "whole.onnx"
        axes = {
            "input_ids": {0: "batch", 1: "new"},
            "position_ids": {0: "batch", 1: "new"},
            "mask": {0: "batch", 2: "new", 3: "total"},
            "past": {2: "batch", 4: "past"},
            "select": {0: "batch", 1: "selected"},
            "chosen": {0: "batch", 1: "selected"},
            "present": {2: "batch", 4: "new"},
        }
        torch.onnx.export(
            decoder,
            example_inputs(model),
            str(whole),
            input_names=INPUTS,
            output_names=["chosen", "present"],
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
        )
        settings = DefaultWeightOnlyQuantConfig(bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4)
        quantizer = MatMulNBitsQuantizer(onnx.load(whole), algo_config=settings)
        quantizer.process()
        graph = quantizer.model.model
    tie_embedding(graph, model.get_input_embeddings().weight.detach().numpy())
    onnx.checker.check_model(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, path)


def tie_embedding(graph: onnx.ModelProto, embedding: np.ndarray) -> None:
    """Replace the float embedding of the graph by int8 rows, and add the output layer that shares them.

    `embedding` has shape (vocabulary, hidden); a row is `int8 * scale` with its own scale.
    """
    scale = np.maximum(np.abs(embedding).max(axis=1), 1e-8).astype(np.float32) / 127
    rows = np.round(embedding / scale[:, None]).astype(np.int8)
    nodes = graph.graph
    lookup = next(node for node in nodes.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    old = lookup.input[0]
    place = list(nodes.node).index(lookup)
    nodes.node.remove(lookup)
    for initializer in [item for item in nodes.initializer if item.name == old]:
        nodes.initializer.remove(initializer)
    nodes.initializer.extend([numpy_helper.from_array(rows, "embedding"), numpy_helper.from_array(scale, "embedding_scale")])
    nodes.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "last_axis"))
    front = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["rows_int8"]),
        helper.make_node("Cast", ["rows_int8"], ["rows_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["embedding_scale", "input_ids"], ["row_scales"]),
        helper.make_node("Unsqueeze", ["row_scales", "last_axis"], ["row_scale"]),
        helper.make_node("Mul", ["rows_float", "row_scale"], list(lookup.output)),
    ]
    for offset, node in enumerate(front):
        nodes.node.insert(place + offset, node)
    nodes.node.extend(
        [
            helper.make_node("Gather", ["embedding", "vocabulary"], ["wanted_int8"]),
            helper.make_node("Cast", ["wanted_int8"], ["wanted_float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["wanted_float"], ["wanted_columns"], perm=[1, 0]),
            helper.make_node("MatMul", ["chosen", "wanted_columns"], ["unscaled"]),
            helper.make_node("Gather", ["embedding_scale", "vocabulary"], ["wanted_scale"]),
            helper.make_node("Mul", ["unscaled", "wanted_scale"], ["logits"]),
        ]
    )
    nodes.input.append(helper.make_tensor_value_info("vocabulary", TensorProto.INT64, ["tokens"]))
    chosen = next(output for output in nodes.output if output.name == "chosen")
    nodes.output.remove(chosen)
    nodes.output.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "selected", "tokens"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
