#!/usr/bin/env python3
"""Makes tiny models of other kinds without weights, for servers with --load-format dummy.

    python make_kinds.py FOLDER TEXT_FILE...

In the folder come to be: vision, a Qwen2-VL that sees; hearing, a Whisper; embedding and
ranking, BERTs of which one gives vectors and the other ranks pairs. Their preprocessors are
those of the real models: a picture is as many tokens as it is there.
"""
import json
import pathlib
import sys

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

CONTEXT = 8192
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SEEING = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
HEARING = [
    "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
    "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
] + ["<|%.2f|>" % (i * 0.02) for i in range(1501)]

# Each message is a line with its role, and its parts in their order.
CHAT = (
    "{% for message in messages %}" + START + "{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif 'image' in part['type'] %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'video' in part['type'] %}<|vision_start|><|video_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}" + START + "assistant\n{% endif %}"
)

TEXT = {
    "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": True,
}


def train(texts, special):
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Decoder()
    tokenizer.train(texts, BpeTrainer(
        vocab_size=1024 + len(special), special_tokens=special, initial_alphabet=ByteLevel.alphabet(), show_progress=False,
    ))
    return tokenizer


def write(folder, tokenizer, files):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def vision(folder, texts):
    tokenizer = train(texts, [PAD, START, END] + SEEING)
    token = tokenizer.token_to_id
    pictures = {
        "min_pixels": 3136, "max_pixels": 1003520, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor",
    }
    write(folder, tokenizer, {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END, "model_max_length": CONTEXT,
            "chat_template": CHAT, "processor_class": "Qwen2VLProcessor",
        },
        "preprocessor_config.json": pictures,
        "video_preprocessor_config.json": {**pictures, "video_processor_type": "Qwen2VLVideoProcessor"},
        "chat_template.json": {"chat_template": CHAT},
        "generation_config.json": {"bos_token_id": token(PAD), "eos_token_id": token(END)},
        "config.json": {
            **TEXT, "model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"],
            "vocab_size": tokenizer.get_vocab_size(), "torch_dtype": "float32",
            "bos_token_id": token(PAD), "eos_token_id": token(END),
            "vision_start_token_id": token(SEEING[0]), "vision_end_token_id": token(SEEING[1]),
            "vision_token_id": token(SEEING[2]), "image_token_id": token(SEEING[3]), "video_token_id": token(SEEING[4]),
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
            "vision_config": {
                "depth": 1, "embed_dim": 64, "hidden_size": TEXT["hidden_size"], "num_heads": 2, "mlp_ratio": 2,
                "in_chans": 3, "in_channels": 3, "patch_size": 14, "spatial_patch_size": 14, "spatial_merge_size": 2,
                "temporal_patch_size": 2, "model_type": "qwen2_vl",
            },
        },
    })


def hearing(folder, texts):
    tokenizer = train(texts, [PAD] + HEARING)
    token = tokenizer.token_to_id
    write(folder, tokenizer, {
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizer", "processor_class": "WhisperProcessor", "pad_token": PAD,
            "bos_token": PAD, "eos_token": PAD, "unk_token": PAD, "model_max_length": 448,
            "additional_special_tokens": HEARING,
        },
        "preprocessor_config.json": {
            "feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor",
            "feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400,
            "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right", "padding_value": 0.0,
            "return_attention_mask": False,
        },
        "generation_config.json": {"bos_token_id": token(PAD), "eos_token_id": token(PAD)},
        "config.json": {
            "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "torch_dtype": "float32",
            "vocab_size": tokenizer.get_vocab_size(), "num_mel_bins": 80, "d_model": 64, "activation_function": "gelu",
            "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_source_positions": 1500, "max_target_positions": 448,
            "is_encoder_decoder": True, "decoder_start_token_id": token(HEARING[0]),
            "bos_token_id": token(PAD), "eos_token_id": token(PAD), "pad_token_id": token(PAD),
        },
    })


def bert(folder, texts, architecture, more):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = train(texts, special)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    write(folder, tokenizer, {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, "pad_token": "[PAD]",
            "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
        "config.json": {
            "model_type": "bert", "architectures": [architecture], "torch_dtype": "float32",
            "vocab_size": tokenizer.get_vocab_size(), "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128,
            "num_attention_heads": 2, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu",
            "layer_norm_eps": 1e-12, "pad_token_id": 0, **more,
        },
    })


def main(folder, *texts):
    folder, texts = pathlib.Path(folder), list(texts)
    vision(folder / "vision", texts)
    hearing(folder / "hearing", texts)
    bert(folder / "embedding", texts, "BertModel", {})
    bert(folder / "ranking", texts, "BertForSequenceClassification", {"id2label": {"0": "fits"}, "label2id": {"fits": 0}})


if __name__ == "__main__":
    main(*sys.argv[1:])
