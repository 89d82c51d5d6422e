"""A model from a GGUF file: a tiny one that is made here, and the real one where it is at hand (CLEAR_WEIGHTS)."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import dequantize, quantize
from test_hub import hub
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, set_seed

from clear_lib.engines import ModelError, gguf
from clear_lib.study.setup import models, profiles

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]  # of GPT-2
MERGES = ["a b", "ab c", "Ġ x"]
TOKENS = [*BYTES, *(merge.replace(" ", "") for merge in MERGES), *SPECIAL]
CONFIG = Qwen2Config(
    vocab_size=len(TOKENS),
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=96,
    max_position_embeddings=256,
    initializer_range=0.2,
    tie_word_embeddings=False,
)

REAL = Path(os.environ.get("CLEAR_WEIGHTS", ""))


def real(profile):
    """The weights of a profile; skips where the file is not at hand."""
    weights = gguf.Weights(profile.model, profile.revision, **profile.weights)
    if not os.environ.get("CLEAR_WEIGHTS") or not (REAL / weights.file).is_file():
        pytest.skip(f"the environment variable CLEAR_WEIGHTS names no folder with {weights.file}")
    return weights


def write(file, packed=GGMLQuantizationType.F32, architecture="qwen2", without=()):
    """Write a random model as a GGUF file, its matrices packed; return the model that the file stands for."""
    set_seed(0)
    model = Qwen2ForCausalLM(CONFIG).eval()
    names = get_tensor_name_map(MODEL_ARCH.QWEN2, CONFIG.num_hidden_layers)
    writer = GGUFWriter(file, architecture)
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.NORMAL] * (len(TOKENS) - 3) + [TokenType.CONTROL] * 3)
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    writer.add_pad_token_id(TOKENS.index("<|endoftext|>"))
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        tensor.copy_(tensor + 0.1 * torch.randn_like(tensor) * (tensor.ndim == 1))  # norms and biases are not 1 and 0
        kind = packed if tensor.ndim == 2 else GGMLQuantizationType.F32
        values = quantize(tensor.numpy(), kind)
        tensor.copy_(torch.from_numpy(dequantize(values, kind)).bfloat16())
        values = tensor.numpy() if kind == GGMLQuantizationType.F32 else values
        if name not in without:
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def weights_of(file):
    return gguf.Weights("someone/model", "v9", file.name, hashlib.sha256(file.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.gguf"
    write(file)
    return file


@pytest.fixture(scope="module")
def weights(file):
    return weights_of(file)


@pytest.fixture(scope="module")
def made(weights, file, tmp_path_factory):
    return gguf.local(weights, file, tmp_path_factory.mktemp("cache"))


def kept(folder):
    """What is in a cache folder, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.is_dir() else []


def process(weights, path, folder, before="", environment=None):
    """Another process that wants the model; prints its folder, or what is wrong."""
    code = (
        f"import json, sys; from clear_lib.engines import ModelError, gguf; {before}\n"
        "try: print(gguf.local(gguf.Weights(*json.loads(sys.argv[1])), sys.argv[2] or None, sys.argv[3]))\n"
        "except ModelError as error: print('error:', error)"
    )
    given = json.dumps([weights.repository, weights.revision, weights.file, weights.sha256])
    return subprocess.Popen(
        [sys.executable, "-c", code, given, str(path or ""), str(folder)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )


@pytest.mark.parametrize("packed", ["F32", "Q8_0"])
def test_the_logits_are_those_of_the_weights_in_the_file(packed, tmp_path):
    file = tmp_path / "tiny.gguf"
    source = write(file, GGMLQuantizationType[packed])
    converted = AutoModelForCausalLM.from_pretrained(
        gguf.local(weights_of(file), tmp_path, tmp_path / "cache"), dtype=torch.float32
    ).eval()
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, len(TOKENS), (3, 40)))
    with torch.inference_mode():
        expected = source(ids).logits
        assert torch.equal(converted(ids).logits, expected) and expected.std() > 0.1
    assert converted.config.max_position_embeddings == 256 and not hasattr(converted.config, "quantization_config")


def test_tokenizer_and_chat_template_are_the_files_own_whatever_lies_beside_it(weights, file, made, tmp_path):
    shutil.copy(file, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "chat_template": "no"}')
    (tmp_path / "chat_template.jinja").write_text("no")
    for folder in (made, gguf.local(weights, tmp_path, tmp_path / "cache")):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        text = tokenizer.apply_chat_template([{"role": "user", "content": "abc xé\n"}], tokenize=False)
        assert text == "<|im_start|>abc xé\n<|im_end|>"
        assert tokenizer(text).input_ids == [
            TOKENS.index(token) for token in ("<|im_start|>", "abc", "Ġx", "Ã", "©", "Ċ", "<|im_end|>")
        ]
        assert tokenizer.decode(tokenizer(text).input_ids) == text
        assert (folder / "tokenizer.json").read_bytes() == (made / "tokenizer.json").read_bytes()


def test_it_is_converted_once(weights, file, tmp_path):
    copy = shutil.copy(file, tmp_path)
    first = gguf.local(weights, copy, tmp_path / "cache")
    os.remove(copy)
    assert gguf.local(weights, copy, tmp_path / "cache") == first
    assert kept(tmp_path / "cache") == [first.name]
    assert sorted(path.name for path in first.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_processes_at_the_same_time_convert_it_once_and_say_one_line(weights, file, tmp_path):
    running = [process(weights, file, tmp_path) for _ in range(3)]
    said = [each.communicate() for each in running]
    name = f"tiny-{weights.sha256[:12]}"
    assert {out for out, _ in said} == {f"{tmp_path / name}\n"} and kept(tmp_path) == [name]
    lines = [line for _, err in said for line in err.splitlines()]
    assert lines == [f"turning tiny.gguf into safetensors, once, in {tmp_path / name} …"]


def test_what_a_killed_process_left_is_cleared_away(weights, file, made, tmp_path):
    left = tmp_path / f".{made.name}"
    left.mkdir()
    (left / "model-00002-of-00002.safetensors").write_text("half")
    again = gguf.local(weights, file, tmp_path)
    assert kept(tmp_path) == [again.name] and {p.name for p in again.iterdir()} == {p.name for p in made.iterdir()}


def test_an_interrupted_conversion_leaves_nothing(weights, file, tmp_path, monkeypatch):
    def interrupted(model, folder):
        (Path(folder) / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Qwen2ForCausalLM, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gguf.local(weights, file, tmp_path)
    assert kept(tmp_path) == []


def test_files_that_are_not_what_they_should_be(weights, file, tmp_path):
    cache, other = tmp_path / "cache", tmp_path / "other.gguf"

    def said(path, weights=weights):
        with pytest.raises(ModelError) as caught:
            gguf.local(weights, path, cache)
        assert kept(cache) == [] and "\n" not in str(caught.value)
        return str(caught.value)

    assert said(other) == f"{other}: there is no such file; tiny.gguf of someone/model is wanted"
    assert said(tmp_path) == f"{tmp_path / 'tiny.gguf'}: there is no such file; tiny.gguf of someone/model is wanted"
    other.write_bytes(file.read_bytes()[:-1])
    assert said(other) == (
        f"{other} is not tiny.gguf of someone/model at v9, or not all of it: "
        f"{file.stat().st_size - 1:,} bytes with the SHA-256 {weights_of(other).sha256}, expected "
        f"{weights.sha256}; delete it and fetch it again"
    )
    assert not cache.exists()  # it was not even begun
    other.write_text("no model at all")
    magic = "other.gguf does not start with the GGUF magic bytes, so it is not a GGUF file."
    assert said(other, weights_of(other)).endswith(f"which must know its architecture: {magic}")
    write(other, architecture="nonesuch")
    assert "which must know its architecture: GGUF model with architecture nonesuch is not supported" in said(
        other, weights_of(other)
    )
    write(other, without=("model.layers.1.mlp.up_proj.weight",))
    assert (
        said(other, weights_of(other))
        == f"{other} is not a whole model: 'model.layers.1.mlp.up_proj.weight' is missing"
    )


def test_no_space(weights, file, tmp_path, monkeypatch):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"  # the disk ends in mid-file
    out, _ = process(weights, file, tmp_path, full).communicate()
    assert out.startswith(f"error: the model cannot be kept in {tmp_path}: ") and "CLEAR_CACHE" in out
    assert kept(tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(
        ModelError,
        match=r"the converted weights take 0.0 GB and 0.0 GB are free; name a folder "
        r"with room for it in the environment variable CLEAR_CACHE",
    ):
        gguf.local(weights, file, tmp_path)
    assert kept(tmp_path) == []


@contextmanager
def refused(folder):
    """A folder that this process may not enter or write to."""
    root, mode = os.geteuid() == 0, folder.stat().st_mode
    folder.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(mode)


def test_no_permission(weights, file, tmp_path):
    cache, locked = tmp_path / "cache", tmp_path / "locked"
    locked.mkdir()
    with refused(locked), pytest.raises(ModelError) as caught:
        gguf.local(weights, file, locked)
    assert str(caught.value) == (
        f"the model cannot be kept in {locked}: Permission denied; name a folder with room for "
        f"it in the environment variable CLEAR_CACHE"
    )
    with refused(locked), pytest.raises(ModelError, match=f"{locked}/tiny.gguf cannot be read: Permission denied$"):
        gguf._checked(weights, locked / "tiny.gguf")
    with pytest.raises(ModelError, match=f"the model cannot be kept in {file}: (Not a directory|File exists)"):
        gguf.local(weights, file, file)
    assert kept(locked) == kept(cache) == []


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_package_that_is_not_installed(weights, file, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"the package {package} is missing: pip install 'clear-lib\[engines\]'$"):
        gguf.local(weights, file, tmp_path)
    assert kept(tmp_path) == []


def test_the_hub_is_asked_where_no_path_is_given(weights, file, made, tmp_path):
    def said(repository, name="tiny.gguf", **changed):
        asked = gguf.Weights(repository, "v9", name, weights.sha256)
        return process(asked, None, tmp_path / "cache", environment=there | changed).communicate()[0].strip()

    files = {"tiny.gguf": file.read_bytes()}
    with hub(files) as there:
        there["HF_HOME"] = str(tmp_path / "hf")
        assert "error: the model 'someone/gated' is gated" in said("someone/gated")
        missing = "error: the model 'someone/model' has no file 'b.gguf' at revision 'v9'"
        assert said("someone/model", "b.gguf") == missing
        assert "hub cannot be reached: no network" in said("someone/model", HF_HUB_OFFLINE="1")
        files["tiny.gguf"] = files["tiny.gguf"][:-1]
        assert "is not tiny.gguf of someone/model at v9, or not all of it" in said("someone/model")
        files["tiny.gguf"], there["HF_HOME"] = file.read_bytes(), str(tmp_path / "anew")
        assert kept(tmp_path / "cache") == []
        fetched = Path(said("someone/model"))
    assert (fetched / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()


def profile_of(weights, engine="transformers"):
    return profiles.load(
        "smoke",
        model=weights.repository,
        revision=weights.revision,
        engine=engine,
        weights={"file": weights.file, "sha256": weights.sha256},
    )


def test_a_profile_starts_its_engine_with_the_file(weights, file, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEAR_CACHE", str(tmp_path))
    engine = models.start(profile_of(weights), file.parent)
    model, ids = Qwen2ForCausalLM.from_pretrained(engine.model, dtype=torch.float32), torch.tensor([[1, 2, 3]])
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)[0, 3:]
    completion = engine.generate([engine.tokenizer.decode([1, 2, 3])], [20])[0]
    assert completion.tokens == tuple(expected.tolist()) and engine.context == 256
    assert engine.ends == {TOKENS.index("<|im_end|>")}


def test_without_vllm_nothing_is_fetched_or_converted(weights, file, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEAR_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "clear_lib.engines.vllm", raising=False)
    with pytest.raises(ModelError, match=r"the package vllm is missing: pip install 'clear-lib\[vllm\]'"):
        models.start(profile_of(weights, "vllm"), file)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("name", ["qwen-0.5b", "qwen-1.5b"])
def test_the_chat_text_of_the_profiles_is_the_files_own(name):
    profile = profiles.load(name)
    real(profile)
    tokenizer = AutoTokenizer.from_pretrained(REAL, gguf_file=profile.weights["file"])
    messages = [
        {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
        {"role": "user", "content": "What is $2 + 2$?\n\nSay it."},
    ]
    chat = profile.prompt(messages[1]["content"])
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == chat
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokenizer(chat).input_ids == ids and tokenizer.decode(ids) == chat


def test_the_real_model_answers(tmp_path, monkeypatch):
    profile = profiles.load("qwen-0.5b", engine="transformers", engine_options={})
    real(profile)
    monkeypatch.setenv("CLEAR_CACHE", str(tmp_path))
    engine = models.start(profile, REAL)
    answer = engine.generate([profile.prompt("What is 2 + 2?")], [60])[0]
    assert "4" in answer.text and engine.tokenizer.eos_token == "<|im_end|>"
    assert engine.ends == {engine.tokenizer.eos_token_id} and engine.context == 32768
    shutil.rmtree(tmp_path)  # a gigabyte
