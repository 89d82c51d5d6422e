"""The paper's predictor: DeBERTa-v3-base with a regression head, fine-tuned on log lengths (eq. 15, Table 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import nn
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from clear_lib import hub
from clear_lib.predictor.network import PAD, Network

MODEL = "microsoft/deberta-v3-base"

#: The hub's main revision holds the weights as a pickle only. This commit (its pull request 4, by the hub's own
#: conversion bot) adds the same weights as safetensors.
REVISION = "82d8d18a7b88346261ba15d8b1044900a452cf90"

#: What tells DeBERTa-v3-base's configuration from the defaults of transformers, whatever its size.
CONFIG = {
    "num_labels": 1,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "pad_token_id": PAD,
}

_SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


@dataclass(eq=False, kw_only=True)
class Deberta(Network):
    """DeBERTa-v3 with a regression head on its first token, at the paper's settings (Table 5).

    The paper leaves open the schedule of the learning rate, the clipping, and that a tenth of the questions chooses
    the epoch. ``model`` and ``revision`` are a name on the hub and a commit, or a folder and None. A ``width`` makes a
    DeBERTa of that width, ``layers`` and ``heads`` instead, from random weights, and trains a tokenizer of
    ``vocabulary`` tokens on the training questions: for machines that have no hub and no GPU. Two of the ``context``
    tokens are the marks of beginning and end.
    """

    kind = "deberta"

    model: str = MODEL
    revision: str | None = None
    width: int | None = None
    vocabulary: int = 2000
    epochs: int = 10
    learning_rate: float = 2e-5
    validation: float = 0.1

    def __post_init__(self) -> None:
        if self.width is None:
            self.revision = hub.pinned(self.model, self.revision, {MODEL: REVISION})

    def _fit_tokenizer(self, texts: Sequence[str]) -> None:
        if self.width is None:
            self.tokenizer = hub.pretrained(transformers.AutoTokenizer, self.model, self.revision).backend_tokenizer
        else:
            self.tokenizer = _trained_tokenizer(texts, self.vocabulary)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.context, direction="left")

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def _new_network(self) -> nn.Module:
        dropout = {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout}
        if self.width is not None:
            shape = {"hidden_size": self.width, "num_hidden_layers": self.layers, "num_attention_heads": self.heads}
            shape |= {"intermediate_size": 4 * self.width, "vocab_size": self.tokenizer.get_vocab_size()}
            return DebertaV2ForSequenceClassification(DebertaV2Config(**CONFIG, **shape, **dropout))
        exact = {"use_safetensors": True, "dtype": torch.float32, "num_labels": 1}
        return hub.pretrained(DebertaV2ForSequenceClassification, self.model, self.revision, **exact, **dropout)

    def _forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return self.network(input_ids=ids, attention_mask=(ids != PAD).long()).logits.squeeze(-1)

    def _state(self) -> dict[str, Any]:
        config, tokenizer = self.network.config.to_diff_dict(), self.tokenizer.to_str()
        return super()._state() | {"config": config, "tokenizer": tokenizer}

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        self.tokenizer = tokenizers.Tokenizer.from_str(state["tokenizer"])
        self.network = DebertaV2ForSequenceClassification(DebertaV2Config.from_dict(state["config"]))
        super()._restore(folder, state)


def _trained_tokenizer(texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    """Splits and marks as DeBERTa-v3's does. A BPE, because training a unigram model is not deterministic."""
    original = transformers.DebertaV2Tokenizer().backend_tokenizer
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = original.normalizer, original.pre_tokenizer
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=_SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    marks = [(mark, _SPECIAL.index(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer
