"""Training of the embedded reasoner, from scratch and from its seed: ``python -m clear_lib.reasoner.train``.

Two processes of one thread each compute the gradients of half a batch and average them; on two cores that is faster
than one process with two threads. Matrices are trained with Muon, the embedding and the norms with AdamW. The first
fifth sees the easier half of the levels only.
"""

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
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AttentionInterface, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

END = "<|end|>"

#: Examples that are encoded and sorted by length at a time.
POOL = 2048

Batch = tuple[torch.Tensor, torch.Tensor]


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
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    examples = islice(tasks.training_stream(recipe.seed), 20_000)
    texts = (PROMPT.format(question=question) + solution for question, solution in examples)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def float32_attention(
    module: torch.nn.Module, *inputs: torch.Tensor | None, **settings: object
) -> tuple[torch.Tensor, None]:
    """Attention in float32 under bfloat16 autocast, whose own backward pass is slow on a CPU."""
    query, key, value, *rest = inputs
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *rest, **settings)


AttentionInterface.register("float32", float32_attention)


def new_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """A randomly initialised Llama of the recipe's size."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
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
    return LlamaForCausalLM(config)


def batches(
    tokenizer: PreTrainedTokenizerFast, stream: Iterator[tuple[str, str]], tokens: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Endless batches ``(ids, labels)`` of about ``tokens`` tokens, alike in length; questions carry no loss."""
    end, encode = tokenizer.eos_token_id, tokenizer.backend_tokenizer.encode_batch
    while True:
        questions, solutions = zip(*islice(stream, POOL), strict=True)
        prompts = [item.ids for item in encode([PROMPT.format(question=question) for question in questions])]
        texts = [item.ids + [end] for item in encode(list(solutions))]
        groups, group = [], []
        for row in sorted(zip(prompts, texts, strict=True), key=lambda row: len(row[0]) + len(row[1])):
            if group and (len(group) + 1) * (len(row[0]) + len(row[1])) > tokens:
                groups.append(group)
                group = []
            group.append(row)
        for index in rng.permutation(len(groups)):  # the last, incomplete group is left out
            ids = [torch.tensor(prompt + text) for prompt, text in groups[index]]
            labels = [torch.tensor([-100] * len(prompt) + text) for prompt, text in groups[index]]
            yield pad_sequence(ids, True, end), pad_sequence(labels, True, -100)


def learning_rate(done: float, step: int, recipe: Recipe) -> float:
    """Fraction of the peak rate: warm-up, plateau, then a cosine to zero over the last ``decay`` of the tokens."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    late = max(0.0, (done - (1 - recipe.decay)) / recipe.decay)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, late)))


def optimizers_of(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon = {"weight_decay": recipe.weight_decay, "adjust_lr_fn": "match_rms_adamw"}
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_lr, **muon),
        torch.optim.AdamW(others, lr=recipe.other_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(rank: int, recipe: Recipe, rendezvous: str, folder: str) -> None:
    """One of the training processes; the first of them prints progress and saves the checkpoint."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=recipe.processes)
    tokenizer = train_tokenizer(recipe)
    model = new_model(recipe, len(tokenizer))
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizers = optimizers_of(model, recipe)
    schedule = lambda step: learning_rate(seen / recipe.tokens, step, recipe)
    rng, share = np.random.default_rng((recipe.seed, rank)), recipe.tokens_per_step // recipe.processes
    easier = batches(tokenizer, tasks.training_stream(1 + rank, recipe.curriculum_level), share, rng)
    every = batches(tokenizer, tasks.training_stream(1 + rank + recipe.processes), share, rng)
    seen, step, log, started = 0, 0, [], time.monotonic()
    progress = tqdm(total=recipe.tokens, unit=" tokens", unit_scale=True, disable=rank > 0)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) for optimizer in optimizers]
    while seen < recipe.tokens:
        ids, labels = next(every if seen > recipe.curriculum * recipe.tokens else easier)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = parallel(input_ids=ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        count = torch.tensor([ids.numel(), loss.item()], dtype=torch.float64)
        dist.all_reduce(count)
        seen += int(count[0])
        progress.update(int(count[0]))
        for scheduler in schedulers:
            scheduler.step()
        last = seen >= recipe.tokens
        if rank == 0 and (step % 20 == 0 or last):
            mean, seconds = round(float(count[1]) / recipe.processes, 4), round(time.monotonic() - started, 1)
            log.append({"step": step, "tokens": seen, "loss": mean, "seconds": seconds})
            progress.set_postfix(step=step, loss=mean)
        if rank == 0 and (step % 200 == 0 or last):
            save(model, tokenizer, recipe, log, Path(folder))
    progress.close()
    dist.destroy_process_group()


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, log: list[dict], folder: Path
) -> None:
    """Write the checkpoint in bfloat16, with the tokenizer, the recipe and the loss curve."""
    copy = LlamaForCausalLM(LlamaConfig.from_dict(model.config.to_dict())).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    longest = recipe.context // 4 * 3
    copy.generation_config = GenerationConfig(do_sample=False, eos_token_id=0, pad_token_id=0, max_new_tokens=longest)
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
    folder, recipe = arguments.pop("out"), Recipe(**arguments)
    with tempfile.TemporaryDirectory() as temporary:
        rendezvous = str(Path(temporary) / "rendezvous")
        torch.multiprocessing.spawn(train, args=(recipe, rendezvous, folder), nprocs=recipe.processes)
    print(f"saved to {folder}")


if __name__ == "__main__":
    main()
