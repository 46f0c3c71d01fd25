"""Measures extraction at rank 16 beside mergekit-extract-lora, in alternation, on a quarter of the layers of the pair.

Both factor the same 2-dimensional tensors of the layers and leave everything else out. Prints wall times, the energy that either
adapter really captures, summed in float64 from the files, and the ratio of the times. The program is sought beside the
interpreter, then in PATH; without it nothing is measured. usage: mergekit.py PROGRAM FOLDER [--rounds N] [--layers N]
"""
import argparse, json, os, shutil, statistics, subprocess, sys, time
import numpy as np
from ml_dtypes import bfloat16

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser()
parser.add_argument("program"), parser.add_argument("folder")
parser.add_argument("--rounds", type=int, default=2), parser.add_argument("--layers", type=int, default=5)
options = parser.parse_args()
peer = shutil.which("mergekit-extract-lora", path=os.path.dirname(os.path.abspath(sys.executable)) + os.pathsep + os.environ["PATH"])
if not peer:
    print("mergekit-extract-lora: not installed beside this Python (PYTHON=…), so not measured")
    sys.exit()
pair, out = os.path.join(options.folder, f"pair-{options.layers}"), os.path.join(options.folder, "out")
if not os.path.exists(f"{pair}/tuned/model.safetensors"):
    subprocess.run([sys.executable, f"{here}/make_pair.py", pair + ".part", str(options.layers)], check=True)
    os.rename(pair + ".part", pair)
os.makedirs(out, exist_ok=True)
base, tuned = f"{pair}/base", f"{pair}/tuned"
commands = {
    "extract --rank 16": [options.program, "extract", "--base", base, "--tuned", tuned, "-o", f"{out}/ours", "--rank", "16", "--quiet"],
    "mergekit-extract-lora": [peer, "--model", tuned, "--base-model", base, "--out-path", f"{out}/theirs", "--max-rank", "16", "--quiet",
                              "-e", "embed_tokens", "-e", "lm_head", "--skip-undecomposable"],
}
folders = dict(zip(commands, (f"{out}/ours", f"{out}/theirs")))
dtypes = {"BF16": bfloat16, "F16": np.float16, "F32": np.float32}


def header(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return {k: v for k, v in json.loads(file.read(length)).items() if k != "__metadata__"}, 8 + length


def tensor(path, name):
    entries, start = header(path)
    entry = entries[name]
    begin, end = entry["data_offsets"]
    raw = np.fromfile(path, np.uint8, end - begin, offset=start + begin)
    return raw.view(dtypes[entry["dtype"]]).astype(np.float64).reshape(entry["shape"])


def captured(folder):
    """The share of the squared norm of all changed tensors that an adapter captures."""
    path, before, after = f"{folder}/adapter_model.safetensors", f"{base}/model.safetensors", f"{tuned}/model.safetensors"
    with open(f"{folder}/adapter_config.json") as file: config = json.load(file)
    scale, total, left = config["lora_alpha"] / config["r"], 0.0, 0.0
    keys = set(header(path)[0])
    for name, entry in header(before)[0].items():
        if ".layers." not in name or len(entry["shape"]) < 2: continue
        delta = tensor(after, name) - tensor(before, name)
        total += np.sum(delta * delta)
        stem = "base_model.model." + name.removesuffix(".weight")
        if f"{stem}.lora_A.weight" in keys:
            delta -= scale * (tensor(path, f"{stem}.lora_B.weight") @ tensor(path, f"{stem}.lora_A.weight"))
        left += np.sum(delta * delta)
    return 1 - left / total


times = {name: [] for name in commands}
for _ in range(options.rounds):
    for name, words in commands.items():
        shutil.rmtree(folders[name], ignore_errors=True)
        start = time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        times[name].append(time.perf_counter() - start)
        if done.returncode: sys.exit(f"{' '.join(words)} failed with status {done.returncode}\n{done.stderr[-2000:]}")
print(f"{'quarter of the pair':22} {'median s':>9} {'min':>7} {'max':>7} {'captured':>9}")
for name, values in times.items():
    print(f"{name:22} {statistics.median(values):9.2f} {min(values):7.2f} {max(values):7.2f} {captured(folders[name]):9.6f}")
print(f"mergekit-extract-lora / extract: {statistics.median(a / b for a, b in zip(times['mergekit-extract-lora'], times['extract --rank 16'])):.1f}")
