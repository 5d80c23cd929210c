#!/usr/bin/env python3
"""Makes a tiny Llama without weights, for a server with --load-format dummy.

    python make_model.py MODEL_DIR TEXT_FILE...

The tokenizer is trained on the text files, of which a few hundred kilobytes are
enough. What the model says is noise: the tests look at when and where, not at
what.
"""
import json
import pathlib
import sys

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

CONTEXT = 8192
PAD, START, END = SPECIAL = ["<pad>", "<start>", "<end>"]

# Each message is a line with its role, and its text.
CHAT = (
    "{% for message in messages %}"
    + START + "{{ message['role'] }}\n{{ message['content'] }}" + END + "\n"
    + "{% endfor %}{% if add_generation_prompt %}" + START + "assistant\n{% endif %}"
)


def train(texts):
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Decoder()
    tokenizer.train(texts, BpeTrainer(
        vocab_size=4096,
        special_tokens=SPECIAL,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    ))
    return tokenizer


def main(model_dir, *texts):
    tokenizer = train(list(texts))
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    files = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": PAD,
            "eos_token": END,
            "model_max_length": CONTEXT,
            "chat_template": CHAT,
        },
        "generation_config.json": {"bos_token_id": start, "eos_token_id": end},
        "config.json": {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": tokenizer.get_vocab_size(),
            "bos_token_id": start,
            "eos_token_id": end,
            "max_position_embeddings": CONTEXT,
            "num_hidden_layers": 4,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
        },
    }
    folder = pathlib.Path(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
