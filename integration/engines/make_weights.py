#!/usr/bin/env python3
"""Copies the model that make_model.py makes, and gives it weights of noise.

    python make_weights.py MODEL_DIR WEIGHTS_DIR

The weights that a server makes up itself are so small that it answers the same to
everything. With these each token depends on what came long before it, so that an
answer shows whether a server has the KV cache of the right prompt.
"""
import json
import pathlib
import shutil
import sys

import numpy
from safetensors.numpy import save_file


def main(model_dir, weights_dir):
    config = json.loads((pathlib.Path(model_dir) / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"] * config["head_dim"]
    kv_heads = config["num_key_value_heads"] * config["head_dim"]
    noise = numpy.random.default_rng(1)
    tensors = {}

    def add(name, out, into, gain):
        values = noise.normal(scale=gain / into**0.5, size=(out, into))
        tensors[f"model.{name}.weight"] = values.astype(numpy.float32)

    # A small embedding and large sums over others: the last token must not decide alone.
    add("embed_tokens", config["vocab_size"], hidden, 1)
    for layer in range(config["num_hidden_layers"]):
        add(f"layers.{layer}.self_attn.q_proj", heads, hidden, 2)
        add(f"layers.{layer}.self_attn.k_proj", kv_heads, hidden, 2)
        add(f"layers.{layer}.self_attn.v_proj", kv_heads, hidden, 2)
        add(f"layers.{layer}.self_attn.o_proj", hidden, heads, 2)
        add(f"layers.{layer}.mlp.gate_proj", inner, hidden, 1)
        add(f"layers.{layer}.mlp.up_proj", inner, hidden, 1)
        add(f"layers.{layer}.mlp.down_proj", hidden, inner, 1)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = numpy.ones(hidden, numpy.float32)
    tensors["model.norm.weight"] = numpy.ones(hidden, numpy.float32)

    shutil.copytree(model_dir, weights_dir, dirs_exist_ok=True)
    save_file(tensors, pathlib.Path(weights_dir) / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
