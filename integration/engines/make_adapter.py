#!/usr/bin/env python3
"""Makes a LoRA adapter of noise for the model that make_model.py makes.

    python make_adapter.py MODEL_DIR ADAPTER_DIR

The shapes are read from the model's config.json, so the two cannot drift
apart.
"""
import json
import pathlib
import sys

import numpy
from safetensors.numpy import save_file

RANK = 8


def main(model_dir, adapter_dir):
    config = json.loads((pathlib.Path(model_dir) / "config.json").read_text())
    hidden = config["hidden_size"]
    width = {
        "q_proj": config["num_attention_heads"] * config["head_dim"],
        "v_proj": config["num_key_value_heads"] * config["head_dim"],
    }
    noise = numpy.random.default_rng(1)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, out in width.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_"
            for half, shape in (("A", (RANK, hidden)), ("B", (out, RANK))):
                values = noise.normal(scale=0.01, size=shape)
                tensors[f"{prefix}{half}.weight"] = values.astype(numpy.float32)

    folder = pathlib.Path(adapter_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(width),
        "bias": "none",
    }, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
