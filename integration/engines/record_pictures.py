#!/usr/bin/env python3
"""Records how many tokens the processors of transformers make of pictures, by model and size:

    python record_pictures.py >testdata/picture-tokens.json

They are configured as the models were published. Nothing is fetched.
"""
import json

import numpy
import transformers
from transformers import (
    GotOcr2ImageProcessor, Llama4ImageProcessor, LlavaNextImageProcessor, PixtralImageProcessor, Qwen2VLImageProcessor,
)
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llama4.processing_llama4 import Llama4Processor
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.pixtral.processing_pixtral import PixtralProcessor

SIZES = [
    (28, 28), (64, 64), (100, 100), (150, 200), (200, 150), (224, 224), (336, 336), (360, 640), (640, 360), (512, 768), (768, 512),
    (1001, 999), (1024, 1024), (1080, 1920), (1920, 1080), (30, 900), (1500, 20), (2048, 2048), (4096, 3072), (3000, 1000), (1000, 3000),
]


def bare(kind, **fields):
    """Returns a processor without a tokenizer."""
    made = object.__new__(kind)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def of(processor):
    return lambda width, height: processor._get_num_multimodal_tokens(image_sizes=[[height, width]])["num_image_tokens"][0]


def qwen(patch, least, most):
    images = Qwen2VLImageProcessor(patch_size=patch, merge_size=2, size={"shortest_edge": least, "longest_edge": most})
    return lambda width, height: images.get_number_of_image_patches(height, width) // 4


def pixtral(patch, merge, side):
    images = PixtralImageProcessor(patch_size=patch, size={"longest_edge": side})
    return of(bare(PixtralProcessor, image_processor=images, patch_size=patch, spatial_merge_size=merge))


def internvl(width, height):
    images = GotOcr2ImageProcessor(crop_to_patches=True, min_patches=1, max_patches=12, size={"height": 448, "width": 448})
    return of(bare(InternVLProcessor, image_processor=images, image_seq_length=256))(width, height) - 2  # begin and end are of the prompt


def llava_next(width, height):
    points = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    images = LlavaNextImageProcessor(size={"shortest_edge": 336}, image_grid_pinpoints=points)
    return of(bare(
        LlavaNextProcessor, image_processor=images, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    ))(width, height)


def llama4(width, height):
    images = Llama4ImageProcessor(max_patches=16, size={"height": 336, "width": 336}, resize_to_max_canvas=False)
    ratio = images(images=numpy.zeros((height, width, 3), numpy.uint8), return_tensors="pt")["aspect_ratios"][0]
    text = bare(Llama4Processor)._prompt_split_image(ratio, 144)
    return text.count("<|") - 3  # image_start, image and image_end are of the prompt


MODELS = {
    "Qwen/Qwen2-VL-7B-Instruct": qwen(14, 3136, 12845056),
    "Qwen/Qwen2.5-VL-7B-Instruct": qwen(14, 3136, 12845056),
    "Qwen/Qwen3-VL-8B-Instruct": qwen(16, 65536, 16777216),
    "mistralai/Pixtral-12B-2409": pixtral(16, 1, 1024),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": pixtral(14, 2, 1540),
    "OpenGVLab/InternVL3-8B": internvl,
    "liuhaotian/llava-v1.6-vicuna-7b": llava_next,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": llama4,
}

if __name__ == "__main__":
    counts = {name: {"%dx%d" % size: int(count(*size)) for size in SIZES} for name, count in MODELS.items()}
    print(json.dumps({"transformers": transformers.__version__, "tokens": counts}, indent=1))
