#!/usr/bin/env python3
"""Makes a LoRA adapter of noise for the model that make_model.py makes.

    python make_adapter.py [--rank N] [--scale X] [--wider N] [--seed N] MODEL_DIR ADAPTER_DIR

The shapes are read from the model's config.json, so the two cannot drift
apart. With --wider they do on purpose. The config names the model by the given
path, as vLLM's resolver wants it.
"""
import argparse
import json
import pathlib

import numpy
from safetensors.numpy import save_file


def main(o):
    config = json.loads((pathlib.Path(o.model) / "config.json").read_text())
    hidden = config["hidden_size"] + o.wider
    width = {
        "q_proj": config["num_attention_heads"] * config["head_dim"],
        "v_proj": config["num_key_value_heads"] * config["head_dim"],
    }
    noise = numpy.random.default_rng(o.seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, out in width.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_"
            for half, shape in (("A", (o.rank, hidden)), ("B", (out, o.rank))):
                values = noise.normal(scale=o.scale, size=shape)
                tensors[f"{prefix}{half}.weight"] = values.astype(numpy.float32)

    folder = pathlib.Path(o.adapter)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": o.model,
        "r": o.rank,
        "lora_alpha": 2 * o.rank,
        "target_modules": sorted(width),
        "bias": "none",
    }, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("adapter")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("--wider", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    main(parser.parse_args())
