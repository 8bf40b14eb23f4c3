"""Small real chat models, built on the spot: real classes, random or briefly trained weights, a BPE trained here."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from genview.guidance import rubric

CONTROL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<image>"]
TEMPLATE = (
    "<s>{% for message in messages %}<|{{ message.role }}|>\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "</s>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
WORDS = (
    "a an the of on in at with and under over near small large red blue green striped wooden dog cat house boat "
    "standing sitting running left right top bottom night sunset painting photo two three many score because it has"
)


def tokenizer(*, digits: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a chat template; without ``digits`` no digit is one token after a space or alone."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), *pieces])
    bpe.decoder = decoders.ByteLevel()
    alphabet = [letter for letter in pre_tokenizers.ByteLevel.alphabet() if digits or letter not in "1234"]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=CONTROL, initial_alphabet=alphabet)
    text = [rubric.RUBRIC, rubric.FORM, rubric.FORM_EXPLAINED, rubric.LOOK, rubric.REMINDER, WORDS]
    bpe.train_from_iterator(
        text if digits else [part.translate(str.maketrans("", "", "1234")) for part in text], trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<image>"],
        chat_template=TEMPLATE,
    )


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    # Much larger than usual, so that random weights give answers that differ from prompt to prompt.
    "initializer_range": 0.2,
}


def language_model(folder: Path, kind: str = "llama", *, seed: int = 0, sizes: dict | None = None, **tokens) -> Path:
    """A Llama or Qwen2 with random weights; its own settings ask for sampling, as many published ones do."""
    words = tokenizer(**tokens)
    torch.manual_seed(seed)
    config, model = (LlamaConfig, LlamaForCausalLM) if kind == "llama" else (Qwen2Config, Qwen2ForCausalLM)
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": None}
    # A few rows to spare: a model's own tokenizer class adds control tokens when it is loaded.
    made = model(config(vocab_size=len(words) + 8, **{**SIZES, **(sizes or {})}, **ids))
    made.generation_config = GenerationConfig(do_sample=True, temperature=0.8, top_p=0.9, **ids)
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def vision_language_model(folder: Path, *, seed: int = 0) -> Path:
    """A Llava with random weights: CLIP's vision tower at 28 pixels, four patches, a Llama."""
    words = tokenizer()
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        initializer_range=0.5,
    )
    text = LlamaConfig(
        vocab_size=len(words) + 8, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, **SIZES
    )
    image_token = words.convert_tokens_to_ids("<image>")
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_token, vision_feature_layer=-1)
    )
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.normal_(std=0.5)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


VISION_TOKENS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}


def qwen_vision_language_model(folder: Path, *, seed: int = 0) -> Path:
    """A Qwen2-VL with random weights: images of any size, positions that depend on their grids."""
    words = tokenizer()
    control = ["<|user|>", "<|assistant|>", *VISION_TOKENS.values()]
    words.add_special_tokens({"additional_special_tokens": control})
    ids = {name: words.convert_tokens_to_ids(token) for name, token in VISION_TOKENS.items()}
    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {"vocab_size": len(words) + 8, "rope_parameters": rope, **SIZES}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "initializer_range": 0.3}
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **ids))
    template = TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    processor = Qwen2VLProcessor(images, words, Qwen2VLVideoProcessor(), chat_template=template)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def teach(folder: Path, examples: list[tuple[list[dict], str]], *, steps: int = 300) -> Path:
    """Train the model of a folder until it answers each conversation as the example says."""
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    rows, targets = [], []
    for conversation, answer in examples:
        question = words.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        before = words(question, add_special_tokens=False)["input_ids"]
        after = words(answer + "</s>", add_special_tokens=False)["input_ids"]
        rows.append(before + after)
        targets.append([-100] * len(before) + after)
    longest = max(map(len, rows))
    ids = torch.tensor([row + [words.eos_token_id] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in targets])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < 0.03:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if loss.item() >= 0.03:
        raise RuntimeError(f"the model did not learn its answers: loss {loss.item():.3f}")
    model.save_pretrained(folder)
    return folder
