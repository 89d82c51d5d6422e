"""The paper's predictor: DeBERTa-v3-base with a regression head, fine-tuned on log lengths (eq. 15, Table 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import nn
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from clear_lib.predictor import on_hub
from clear_lib.predictor.network import PAD, Network

MODEL = "microsoft/deberta-v3-base"

#: The hub's main revision holds the weights as a pickle only. This commit (its pull request 4, by the hub's own
#: conversion bot) adds the same weights as safetensors.
REVISION = "82d8d18a7b88346261ba15d8b1044900a452cf90"

_SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


class Deberta(Network):
    """DeBERTa-v3 with a regression head on its first token, at the paper's settings (Table 5).

    What the paper leaves open: the learning rate rises over a tenth of the steps and falls to 0, gradients are
    clipped to norm 1, and a tenth of the questions chooses the epoch.

    Parameters
    ----------
    model, revision : str
        Name on the hub and commit, or a folder and None. ``model.safetensors`` is what is read.
    width : int, optional
        Makes a DeBERTa of this width instead, from random weights, with a tokenizer learnt from the training
        questions: for machines that have no hub and no GPU.
    layers, heads, vocabulary : int
        Shape of that one, and tokens of its tokenizer.
    context : int
        Tokens kept, the last ones (left truncation); two of them are the marks of beginning and end.
    epochs, batch_size : int
        Passes over the training questions, and questions of a step.
    learning_rate, weight_decay, dropout : float
        Of AdamW, and of every layer.
    validation : float
        Share of the training questions that chooses the best epoch.
    seed : int
        Of head, order, dropout and the choice for validation.

    Raises
    ------
    ValueError
        If a model of the hub comes without its revision.
    """

    kind = "deberta"

    def __init__(
        self,
        model: str = MODEL,
        revision: str | None = None,
        width: int | None = None,
        layers: int = 2,
        heads: int = 4,
        vocabulary: int = 2000,
        context: int = 512,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 2e-5,
        weight_decay: float = 0.01,
        dropout: float = 0.1,
        validation: float = 0.1,
        seed: int = 0,
    ) -> None:
        revision = REVISION if model == MODEL and revision is None else revision
        self.options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if width is None:
            on_hub.check(model, revision)

    def _learn_tokens(self, texts: Sequence[str]) -> None:
        o = self.options
        if o["width"] is None:
            tokenizer = on_hub.load(transformers.AutoTokenizer, o["model"], o["revision"]).backend_tokenizer
        else:
            tokenizer = _tokenizer(texts, o["vocabulary"])
        tokenizer.no_padding()
        tokenizer.enable_truncation(o["context"], direction="left")
        self.tokenizer = tokenizer

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def _made(self) -> nn.Module:
        o = self.options
        if o["width"] is not None:
            return DebertaV2ForSequenceClassification(_config(self.tokenizer.get_vocab_size(), o))
        return on_hub.load(
            DebertaV2ForSequenceClassification,
            o["model"],
            o["revision"],
            use_safetensors=True,
            dtype=torch.float32,
            num_labels=1,
            hidden_dropout_prob=o["dropout"],
            attention_probs_dropout_prob=o["dropout"],
        )

    def _forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return self.network(input_ids=ids, attention_mask=(ids != PAD).long()).logits.squeeze(-1)

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`."""
        folder = self._save(folder, config=self.network.config.to_diff_dict())
        self.tokenizer.save(str(folder / "tokenizer.json"))

    def _empty(self, folder: Path, state: dict[str, Any]) -> nn.Module:
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return DebertaV2ForSequenceClassification(DebertaV2Config.from_dict(state["config"]))


def _tokenizer(texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    """Splits and marks as DeBERTa-v3's does. A BPE, because a unigram model is not learnt the same every time."""
    usual = transformers.DebertaV2Tokenizer().backend_tokenizer
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = usual.normalizer, usual.pre_tokenizer
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=_SPECIAL, show_progress=False)
    made.train_from_iterator(texts, trainer)
    marks = [(mark, _SPECIAL.index(mark)) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    return made


def _config(vocabulary: int, options: dict[str, Any]) -> DebertaV2Config:
    """DeBERTa-v3-base's configuration in another size."""
    return DebertaV2Config(
        vocab_size=vocabulary,
        hidden_size=options["width"],
        intermediate_size=4 * options["width"],
        num_hidden_layers=options["layers"],
        num_attention_heads=options["heads"],
        num_labels=1,
        hidden_dropout_prob=options["dropout"],
        attention_probs_dropout_prob=options["dropout"],
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pad_token_id=PAD,
    )
