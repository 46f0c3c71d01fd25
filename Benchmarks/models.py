"""Measures merge, unmerge and verify of the pair's base in other dtypes and in shards, beside cp, and their memory and time for models
of growing size. usage: models.py PROGRAM FOLDER [--rounds N] [--layers N] [--forms f32 f16 shards] [--sizes GB …] [--verified GB …]

Needs what run.py has left in FOLDER: the pair and the adapter. Forms are made by convert and deleted again. The growing models
are sparse files of 100 shards, all zeros; their merged output is written in full and deleted, so that --sizes wants as much
disk. A verified model is compared with itself, by an adapter of zeros: only its index and headers take disk.
"""
import argparse, json, os, shutil, statistics, struct, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("program"), parser.add_argument("folder")
parser.add_argument("--rounds", type=int, default=3), parser.add_argument("--layers", type=int, default=22)
parser.add_argument("--forms", nargs="*", default=["f32", "f16", "shards"])
parser.add_argument("--sizes", nargs="*", type=int, default=[2, 4, 8]), parser.add_argument("--verified", nargs="*", type=int, default=[10, 40])
options = parser.parse_args()
base, adapter = f"{options.folder}/pair-{options.layers}/base", f"{options.folder}/out/adapter"
work = f"{options.folder}/models"
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)


def measure(*words):
    """Wall seconds and peak resident MB of one run."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status: sys.exit(f"{' '.join(words)} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def remove(*names):
    for name in names: shutil.rmtree(f"{work}/{name}", ignore_errors=True)


def row(name, results, compared=None):
    seconds = statistics.median(s for s, _ in results)
    ratio = f"{statistics.median(s / c for (s, _), (c, _) in zip(results, compared)):6.2f} x" if compared else ""
    print(f"{name:24} {seconds:8.2f} s {max(m for _, m in results):6.0f} MB {ratio}", flush=True)


for form in options.forms:
    words = ["--max-shard-size", "500MB"] if form == "shards" else ["--dtype", form]
    measure(options.program, "convert", base, "-o", f"{work}/base", "--quiet", *words)
    times = {name: [] for name in ("cp", "merge", "unmerge", "cat", "verify")}
    for _ in range(options.rounds):
        files = [f"{work}/base/{name}" for name in sorted(os.listdir(f"{work}/base")) if name.endswith(".safetensors")]
        measure("cat", *files)
        os.makedirs(f"{work}/copy")
        times["cp"].append(measure("cp", "--reflink=never", *files, f"{work}/copy"))
        remove("copy")
        times["merge"].append(measure(options.program, "merge", f"{work}/base", adapter, "-o", f"{work}/merged", "--quiet"))
        times["unmerge"].append(measure(options.program, "unmerge", f"{work}/merged", adapter, "-o", f"{work}/back", "--quiet"))
        remove("back")
        times["cat"].append(measure("cat", *files, *[name.replace("/base/", "/merged/") for name in files]))
        times["verify"].append(measure(options.program, "verify", "--base", f"{work}/base", "--adapter", adapter, "--merged", f"{work}/merged", "--quiet"))
        remove("merged")
    for name, results in times.items():
        row(f"{form} {name}", results, {"merge": times["cp"], "unmerge": times["cp"], "verify": times["cat"]}.get(name))
    remove("base")


def write(path, tensors):
    """A safetensors file of zeros in bfloat16 that takes no disk."""
    header, position = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)


def sparse(size):
    """A model of 100 shards and `size` GB, and an adapter of rank 16 for all of it."""
    columns, width = 4096, 100
    tensors = {f"model.layers.{i}.mlp.{kind}_proj.weight": (size * 10**9 // 2 // columns // 3 // width, columns) for i in range(width) for kind in ("gate", "up", "down")}
    os.makedirs(f"{work}/base"), os.makedirs(f"{work}/adapter")
    index = {}
    for shard in range(width):
        name = f"model-{shard + 1:05}-of-{width:05}.safetensors"
        own = {t: s for t, s in tensors.items() if t.startswith(f"model.layers.{shard}.")}
        write(f"{work}/base/{name}", own)
        index |= {t: name for t in own}
    with open(f"{work}/base/model.safetensors.index.json", "w") as file: json.dump({"metadata": {"total_size": sum(2 * a * b for a, b in tensors.values())}, "weight_map": index}, file)
    factors = {}
    for name, (rows, _) in tensors.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        factors |= {f"{stem}.lora_A.weight": (16, columns), f"{stem}.lora_B.weight": (rows, 16)}
    write(f"{work}/adapter/adapter_model.safetensors", factors)
    with open(f"{work}/adapter/adapter_config.json", "w") as file: json.dump({"peft_type": "LORA", "r": 16, "lora_alpha": 16, "target_modules": ["gate_proj", "up_proj", "down_proj"]}, file)


for size in options.sizes:
    sparse(size)
    row(f"merge {size} GB, sparse", [measure(options.program, "merge", f"{work}/base", f"{work}/adapter", "-o", f"{work}/merged", "--quiet")])
    row(f"unmerge {size} GB", [measure(options.program, "unmerge", f"{work}/merged", f"{work}/adapter", "-o", f"{work}/back", "--quiet")])
    remove("base", "adapter", "merged", "back")
for size in options.verified:
    sparse(size)
    row(f"verify {size} GB, sparse", [measure(options.program, "verify", "--base", f"{work}/base", "--adapter", f"{work}/adapter", "--merged", f"{work}/base", "--quiet")])
    remove("base", "adapter")
shutil.rmtree(work)
