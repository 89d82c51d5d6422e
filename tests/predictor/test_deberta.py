"""DeBERTa: the paper's settings, a model as the hub lays it out, and nothing but safetensors."""

import json
import pickle

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from test_predictor import questions
from transformers import DebertaV2Config, DebertaV2ForMaskedLM

from clear_lib import predictor
from clear_lib.predictor import deberta, network
from clear_lib.study.setup import paper, profiles

FAST = {"epochs": 12, "learning_rate": 5e-3, "dropout": 0.0}


def build(**options):
    return predictor.build("deberta", options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model in the files of microsoft/deberta-v3-base: half precision, a SentencePiece tokenizer."""
    folder = tmp_path_factory.mktemp("deberta")
    texts = questions(400, seed=9)[0]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "spm"),
        vocab_size=28,
        minloglevel=2,
        pad_id=0,
        pad_piece="[PAD]",
        bos_id=1,
        bos_piece="[CLS]",
        eos_id=2,
        eos_piece="[SEP]",
        unk_id=3,
        unk_piece="[UNK]",
    )
    (folder / "spm.vocab").unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    torch.manual_seed(0)
    config = {
        "model_type": "deberta-v2",
        "vocab_size": 29,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "type_vocab_size": 0,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "relative_attention": True,
        "position_buckets": 32,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "max_relative_positions": -1,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-7,
    }
    (folder / "config.json").write_text(json.dumps(config))
    model = DebertaV2ForMaskedLM(DebertaV2Config(**config)).half()
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name.startswith("deberta.")}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_the_defaults_are_the_papers():
    options = build().options
    assert options["model"] == "microsoft/deberta-v3-base" and len(options["revision"]) == 40
    assert options["context"] == paper.TABLE_5.predictor_context == 512
    for name in ("epochs", "batch_size", "learning_rate", "weight_decay"):
        assert options[name] == getattr(paper.TABLE_5, name)
    seven = profiles.load("paper-7b").predictor
    assert predictor.build(seven.kind, seven.options).options == options and seven.tiers == ("easy", "moderate")


def test_deberta_v3_base_has_86_million_weights_in_use():
    base = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    made = build(width=768)
    with torch.device("meta"):
        made.network = deberta.DebertaV2ForSequenceClassification(
            DebertaV2Config(vocab_size=128_100, **deberta.CONFIG, **base)
        )
    assert made.weights_in_use == pytest.approx(paper.TABLE_5.predictor_parameters, rel=0.01)


def test_a_pretrained_model_is_fine_tuned_from_its_weights(folder, monkeypatch):
    made = build(model=str(folder), **FAST)
    texts, lengths = questions(150, 0)
    made._fit_tokenizer(texts)
    before = made._new_network().state_dict()
    pretrained = load_file(folder / "model.safetensors")
    assert all(torch.equal(before[name], value.float()) for name, value in pretrained.items() if name in before)
    assert sum(name in before for name in pretrained) > 20 and before["classifier.weight"].shape == (1, 32)
    assert {value.dtype for value in before.values()} == {torch.float32}

    made.fit(texts, lengths)
    fresh, expected = questions(80, seed=1)
    assert spearmanr(made.predict(fresh).threshold, expected).statistic > 0.8


def test_it_comes_back_from_disk_without_the_model_it_was_made_of(folder, tmp_path):
    texts, lengths = questions(60, 0)
    made = build(model=str(folder), epochs=1).fit(texts, lengths)
    made.save(tmp_path)
    state = json.loads((tmp_path / "predictor.json").read_text())
    state["options"] |= {"model": "gone/away", "revision": "0" * 40}
    (tmp_path / "predictor.json").write_text(json.dumps(state))
    (tmp_path / "sha256.json").unlink()
    again = predictor.load(tmp_path)
    np.testing.assert_allclose(again.predict(texts).threshold, made.predict(texts).threshold, rtol=1e-6)


def test_long_questions_keep_their_end(folder):
    for options in ({"model": str(folder)}, {"width": 16}):
        made = build(context=8, **options)
        made._fit_tokenizer(questions(50, 0)[0])
        whole, short = "Add 11 + 12 + 13 + 14 + 15 + 16 .", "17 + 18 ."
        ends = [made.tokenizer.id_to_token(i) for i in made._tokens([whole + " " + short])[0]]
        assert len(ends) == 8 and ends[0] == "[CLS]" and ends[-1] == "[SEP]"
        assert "".join(ends[1:-1]).replace("▁", " ").endswith("18 .")


def test_a_pickle_is_refused_and_never_opened(folder, tmp_path):
    """The model's only weights are a pickle that writes a file as soon as somebody loads it."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"holds no model in .*model.safetensors only.*converted first"):
        build(model=str(tmp_path)).fit(*questions(20, 0))
    assert not (tmp_path / "opened").exists()


def test_without_a_hub_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = "'microsoft/deberta-v3-base' is not on this machine and the hub cannot be reached.* Give a path instead"
    with pytest.raises(ValueError, match=said):
        build().fit(*questions(20, 0))


def test_a_model_of_the_hub_needs_a_revision():
    for kind in ("deberta", "sentence"):
        with pytest.raises(ValueError, match="'some/model' is no folder, and no revision says which commit"):
            predictor.build(kind, {"model": "some/model"})


def test_the_padding_does_not_count():
    assert network.PAD == deberta._SPECIAL.index("[PAD]")
    made = build(width=16, layers=1, epochs=1).fit(*questions(40, 0))
    assert network.PAD not in made._tokens(["Add 11 + 12 ."])[0]
