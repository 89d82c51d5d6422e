"""Training of the embedded reasoner, from scratch and from its seed: ``python -m clear_lib.reasoner.train``.

Two processes of one thread each compute the gradients of half a batch and average them; on two cores that is
faster than one process with two threads. Matrices are trained with Muon, the embedding and the norms with
AdamW. The first fifth sees the easier half of the levels only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AttentionInterface, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

END = "<|end|>"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the checkpoint; the model card prints it."""

    seed: int = 7
    tokens: int = 20_000_000
    tokens_per_step: int = 8_192
    curriculum: float = 0.2
    curriculum_level: int = 4
    matrix_lr: float = 3e-3
    other_lr: float = 3e-3
    weight_decay: float = 0.02
    warmup_steps: int = 50
    decay: float = 0.5
    vocabulary: int = 512
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    key_value_heads: int = 2
    feed_forward: int = 512
    context: int = 1024
    processes: int = 2


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE in which every digit and every single letter stands alone."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r"\\boxed\{|[.,:] | ?[A-Za-z]{2,}|[A-Za-z]|\d|\s|[^\sA-Za-z\d]"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = (
        PROMPT.format(question=question) + solution
        for question, solution in islice(tasks.training_stream(recipe.seed), 20_000)
    )
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=recipe.vocabulary,
            special_tokens=[END],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def float32_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *arguments: object,
    **settings: object,
) -> tuple[torch.Tensor, None]:
    """Attention in float32 under bfloat16 autocast, whose own backward pass is slow on a CPU."""
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *arguments, **settings)


AttentionInterface.register("float32", float32_attention)


def new_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """A randomly initialised Llama of the recipe's size."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            attn_implementation="float32",
            vocab_size=vocabulary,
            hidden_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.key_value_heads,
            intermediate_size=recipe.feed_forward,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


def batches(
    tokenizer: PreTrainedTokenizerFast,
    stream: Iterator[tuple[str, str]],
    tokens: int,
    rng: np.random.Generator,
    pool: int = 2048,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches ``(ids, labels)`` of about ``tokens`` tokens, alike in length; questions carry no loss."""
    end = tokenizer.eos_token_id
    encode = tokenizer.backend_tokenizer.encode_batch
    while True:
        questions, solutions = zip(*islice(stream, pool), strict=True)
        prompts = [item.ids for item in encode([PROMPT.format(question=question) for question in questions])]
        texts = [item.ids + [end] for item in encode(list(solutions))]
        rows = sorted(zip(prompts, texts, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        groups, group = [], []
        for row in rows:
            if group and (len(group) + 1) * (len(row[0]) + len(row[1])) > tokens:
                groups.append(group)
                group = []
            group.append(row)
        for index in rng.permutation(len(groups)):  # the last, incomplete group is left out
            group = groups[index]
            width = max(len(prompt) + len(text) for prompt, text in group)
            ids = torch.full((len(group), width), end)
            labels = torch.full((len(group), width), -100)
            for row, (prompt, text) in enumerate(group):
                ids[row, : len(prompt) + len(text)] = torch.tensor(prompt + text)
                labels[row, len(prompt) : len(prompt) + len(text)] = torch.tensor(text)
            yield ids, labels


def learning_rate(done: float, step: int, recipe: Recipe) -> float:
    """Fraction of the peak rate: warm-up, plateau, then a cosine to zero over the last ``decay`` of the tokens."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    late = max(0.0, (done - (1 - recipe.decay)) / recipe.decay)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, late)))


def average_gradients(model: torch.nn.Module, processes: int) -> None:
    """Replace every gradient by its mean over the processes."""
    gradients = [parameter.grad for parameter in model.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def train(rank: int, recipe: Recipe, rendezvous: str, folder: str) -> None:
    """One of the training processes; the first of them prints progress and saves the checkpoint."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=recipe.processes)
    tokenizer = train_tokenizer(recipe)
    model = new_model(recipe, len(tokenizer))
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    optimizers = [
        torch.optim.Muon(
            matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=recipe.other_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    peaks = [recipe.matrix_lr, recipe.other_lr]
    rng = np.random.default_rng((recipe.seed, rank))
    share = recipe.tokens_per_step // recipe.processes
    source = batches(tokenizer, tasks.training_stream(1 + rank, recipe.curriculum_level), share, rng)
    curriculum, seen, step, log, started = True, 0, 0, [], time.monotonic()
    while seen < recipe.tokens:
        if curriculum and seen > recipe.curriculum * recipe.tokens:
            curriculum = False
            source = batches(tokenizer, tasks.training_stream(1 + rank + recipe.processes), share, rng)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * learning_rate(seen / recipe.tokens, step, recipe)
        ids, labels = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        average_gradients(model, recipe.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        count = torch.tensor([ids.numel(), loss.item()], dtype=torch.float64)
        dist.all_reduce(count)
        seen += int(count[0])
        if rank == 0 and (step % 20 == 0 or seen >= recipe.tokens):
            elapsed = time.monotonic() - started
            log.append(
                {
                    "step": step,
                    "tokens": seen,
                    "loss": round(float(count[1]) / recipe.processes, 4),
                    "seconds": round(elapsed, 1),
                }
            )
            print(
                f"\rstep {step:5d}  {seen / 1e6:5.1f} of {recipe.tokens / 1e6:.1f} M tokens  loss {log[-1]['loss']:.3f}  "
                f"{seen / elapsed:6.0f} tokens/s  {elapsed / 60:4.1f} min, {elapsed / seen * max(recipe.tokens - seen, 0) / 60:4.1f} left ",
                end="",
                flush=True,
            )
        if rank == 0 and (step % 200 == 0 or seen >= recipe.tokens):
            save(model, tokenizer, recipe, log, Path(folder))
    dist.destroy_process_group()


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, log: list[dict], folder: Path
) -> None:
    """Write the checkpoint in bfloat16, with the tokenizer, the recipe and the loss curve."""
    copy = LlamaForCausalLM(LlamaConfig.from_dict(model.config.to_dict())).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=0, pad_token_id=0, max_new_tokens=recipe.context // 4 * 3
    )
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"recipe": asdict(recipe), "loss": log}, indent=1) + "\n")


def main() -> None:
    """Parse the command line and start the training processes."""
    parser = argparse.ArgumentParser(prog="python -m clear_lib.reasoner.train", description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=str(CHECKPOINT), help="folder of the checkpoint (default: the package's)")
    for name, kind in (("seed", int), ("tokens", int), ("matrix-lr", float), ("other-lr", float)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Recipe, name.replace("-", "_")))
    arguments = vars(parser.parse_args())
    folder = arguments.pop("out")
    recipe = Recipe(**arguments)
    with tempfile.TemporaryDirectory() as temporary:
        torch.multiprocessing.spawn(
            train, args=(recipe, str(Path(temporary) / "rendezvous"), folder), nprocs=recipe.processes
        )
    print(f"\nsaved to {folder}")


if __name__ == "__main__":
    main()
