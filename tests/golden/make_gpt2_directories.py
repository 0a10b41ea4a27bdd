#!/usr/bin/python3
"""Model directories as Hugging Face has written them over the years, with the loss that PyTorch gives for each on gpt2/text.txt.

    python3 tests/golden/make_gpt2_directories.py                   writes the directories in tests/golden/gpt2/
    python3 tests/golden/make_gpt2_directories.py --check           compares them with what it would write
    python3 tests/golden/make_gpt2_directories.py --larger OUT IDS  GPT-2 with 4 layers, width 128 and 50,257 ids in OUT; prints the
                                                                    loss on IDS, a file of numbers between blanks, in f32 and f64

The transformers library is not needed: the model is written out (make_golden.py), names and keys are those of its files. Weights are
random; the loss is computed in f64 from the numbers as they are stored, so that 16-bit files count as widened.
"""
import json
import pathlib
import struct
import sys

import torch

import make_golden as golden

FOLDER = golden.FOLDER / "gpt2"
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8", torch.bool: "BOOL"}
ACTIVATIONS = {"gelu_new": "gelu", "gelu": "gelu-erf", "relu": "relu"}

TODAY = {"_name_or_path": "./clm", "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
         "bos_token_id": 255, "embd_pdrop": 0.1, "eos_token_id": 255, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
         "model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_inner": None, "n_layer": 2, "n_positions": 24,
         "reorder_and_upcast_attn": False, "resid_pdrop": 0.1, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
         "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
         "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
         "torch_dtype": "float32", "transformers_version": "4.40.1", "use_cache": True, "vocab_size": 256}
OF_2019 = {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "finetuning_task": None, "initializer_range": 0.02, "layer_norm_epsilon": 1e-06,
           "n_ctx": 24, "n_embd": 8, "n_head": 4, "n_layer": 2, "n_positions": 24, "num_labels": 1, "output_attentions": False,
           "output_hidden_states": False, "pruned_heads": {}, "resid_pdrop": 0.1, "summary_activation": None,
           "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
           "torchscript": False, "use_bfloat16": False, "vocab_size": 256}


def weights(config, source, deviation):
    """Random weights under the names of GPT2Model."""
    width, hidden = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]
    p = {"wte.weight": source.normal(config["vocab_size"], width, deviation=deviation),
         "wpe.weight": source.normal(config["n_positions"], width, deviation=deviation / 2)}
    for i in range(config["n_layer"]):
        block = golden.block_parameters(source, width, hidden, deviation)
        p.update({f"h.{i}.{name}": x for name, x in block.items()})
    return {**p, "ln_f.weight": source.normal(width, deviation=0.2, mean=1), "ln_f.bias": source.normal(width, deviation=0.2)}


def logits(p, ids, config):
    def ln(name, x):
        return golden.layer_norm(x, p[name + ".weight"], p[name + ".bias"], config["layer_norm_epsilon"])

    heads, activation = config["n_head"], ACTIVATIONS[config.get("activation_function", "gelu_new")]
    x = p["wte.weight"][ids] + p["wpe.weight"][:ids.shape[1]]
    for i in range(config["n_layer"]):
        x = x + golden.self_attention(golden.under(p, f"h.{i}.attn"), ln(f"h.{i}.ln_1", x), heads)
        x = x + golden.mlp(golden.under(p, f"h.{i}.mlp"), ln(f"h.{i}.ln_2", x), activation)
    return ln("ln_f", x) @ p["wte.weight"].T


def loss(p, ids, config):
    """Mean over all ids but the first, each from those before it in its window of n_positions."""
    total, context = 0.0, config["n_positions"]
    with torch.no_grad():
        for begin in range(0, len(ids) - 1, context):
            window = torch.tensor(ids[begin:begin + context + 1])
            predicted = logits(p, window[None, :-1], config)
            total += golden.cross_entropy(predicted, window[None, 1:]).item() * (len(window) - 1)
    return total / (len(ids) - 1)


def packed(tensors, metadata):
    """A safetensors file in the order of `tensors`."""
    header, blobs, offset = {"__metadata__": metadata} if metadata else {}, [], 0
    for name, x in tensors.items():
        raw = x.contiguous().view(torch.int16) if x.dtype == torch.bfloat16 else x.contiguous()   # numpy has no bfloat16
        blobs.append(raw.numpy().tobytes())
        header[name] = {"dtype": TYPES[x.dtype], "shape": list(x.shape), "data_offsets": [offset, offset + len(blobs[-1])]}
        offset += len(blobs[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def in_shards(tensors, count):
    """Files model-0000i-of-0000n.safetensors and their index, cut where a third of the tensors is full, as save_pretrained does."""
    names, files, places = list(tensors), {}, {}
    for i in range(count):
        part = names[len(names) * i // count:len(names) * (i + 1) // count]
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        files[file] = packed({name: tensors[name] for name in part}, {"format": "pt"})
        places.update({name: file for name in part})
    total = sum(x.numel() * x.element_size() for x in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return {**files, "model.safetensors.index.json": (json.dumps(index, indent=2) + "\n").encode()}


def old_names(p, layers, context):
    """As the first files on the hub: masks beside the weights, the head once more, gamma and beta in a norm."""
    mask = torch.tril(torch.ones(context, context)).view(1, 1, context, context)
    out = {name.replace("ln_1.weight", "ln_1.gamma").replace("ln_1.bias", "ln_1.beta"): x for name, x in p.items()}
    return {**out, **{f"h.{i}.attn.bias": mask for i in range(layers)}, "lm_head.weight": p["wte.weight"]}


def prefixed(p):
    return {"transformer." + name: x for name, x in p.items()}


def directories(ids):
    """Name -> ({file: bytes}, loss)."""
    out = {}

    def add(seed, name, config, dtype, files_of):
        p = {key: x.to(dtype) for key, x in weights(config, golden.Source(seed), deviation=0.4).items()}
        files = {"config.json": (json.dumps(config, indent=2) + "\n").encode(), **files_of(p)}
        out[name] = files, loss({key: x.double() for key, x in p.items()}, ids, config)

    def one_file(tensors, metadata={"format": "pt"}):
        return {"model.safetensors": packed(tensors, metadata)}

    add(1, "today", TODAY, torch.float32, lambda p: one_file(prefixed(p)))
    add(2, "of_2019", OF_2019, torch.float32, lambda p: one_file(old_names(p, 2, 24), {}))
    add(3, "f16", {**TODAY, "torch_dtype": "float16", "activation_function": "gelu"}, torch.float16,
        lambda p: one_file({**prefixed(p), "lm_head.weight": p["wte.weight"], "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}))
    add(4, "bf16", {**TODAY, "torch_dtype": "bfloat16", "activation_function": "relu", "n_inner": 20}, torch.bfloat16,
        lambda p: one_file(p))
    add(5, "sharded", {**TODAY, "n_head": 1}, torch.float32, lambda p: in_shards(prefixed(p), 3))
    return out


def larger(folder, ids):
    config = {**TODAY, "n_embd": 128, "n_head": 4, "n_layer": 4, "n_positions": 256, "vocab_size": 50257, "bos_token_id": 50256,
              "eos_token_id": 50256}
    p = {name: x.float() for name, x in weights(config, golden.Source(6), deviation=0.1).items()}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "model.safetensors").write_bytes(packed(prefixed(p), {"format": "pt"}))
    print(f"f32 {loss(p, ids, config):.8f}  f64 {loss({name: x.double() for name, x in p.items()}, ids, config):.8f}")


def main():
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--larger"]:
        return larger(pathlib.Path(sys.argv[2]), [int(word) for word in pathlib.Path(sys.argv[3]).read_text().split()])
    made = directories(list((FOLDER / "text.txt").read_bytes()))
    files = {FOLDER / name / file: data for name, (all_files, _) in made.items() for file, data in all_files.items()}
    files[FOLDER / "loss.json"] = (json.dumps({name: value for name, (_, value) in made.items()}, indent=1) + "\n").encode()
    if sys.argv[1:] == ["--check"]:
        wrong = [str(path) for path, data in files.items() if not path.exists() or path.read_bytes() != data]
        sys.exit(f"these differ: {' '.join(wrong)}" if wrong else 0)
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"{path.relative_to(FOLDER)}  {len(data):,} bytes")


if __name__ == "__main__":
    main()
