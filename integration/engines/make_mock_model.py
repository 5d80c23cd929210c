#!/usr/bin/env python3
"""Makes what a mock engine needs of a model: a tokenizer of bytes and a chat template.

    python make_mock_model.py FOLDER
"""
import json
import os
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)


def write(name, value):
    with open(os.path.join(folder, name), "w") as out:
        json.dump(value, out, indent=1)


special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
vocabulary = {token: i for i, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(special)
tokenizer.save(os.path.join(folder, "tokenizer.json"))
write("tokenizer_config.json", {
    "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192,
    "bos_token": special[0], "eos_token": special[2], "pad_token": special[0],
    "chat_template": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
                     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"})
write("generation_config.json", {"bos_token_id": 0, "eos_token_id": 2})
# The last file, as the installer looks for it.
write("config.json", {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(vocabulary),
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "torch_dtype": "float32", "bos_token_id": 0, "eos_token_id": 2,
    "tie_word_embeddings": True})
