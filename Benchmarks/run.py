"""Measures lora-surgery beside cat, cp and a PyTorch peer, all in one run, and prints ratios.

Each round runs every command once, so that a slow moment of the machine meets all of them; figures are medians. The pair of
checkpoints is made once and kept. usage: run.py PROGRAM FOLDER [--rounds N] [--layers N] [--peers]
"""
import argparse, json, os, shutil, statistics, subprocess, sys, time

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser()
parser.add_argument("program"), parser.add_argument("folder")
parser.add_argument("--rounds", type=int, default=5), parser.add_argument("--layers", type=int, default=22)
parser.add_argument("--peers", action="store_true", help="also run the PyTorch peers (needs torch and safetensors)")
options = parser.parse_args()
pair, out = os.path.join(options.folder, f"pair-{options.layers}"), os.path.join(options.folder, "out")
if not os.path.exists(f"{pair}/tuned/model.safetensors"):
    print("making the pair of checkpoints …", flush=True)
    subprocess.run([sys.executable, f"{here}/make_pair.py", pair + ".part", str(options.layers)], check=True)
    os.rename(pair + ".part", pair)
base, tuned = f"{pair}/base/model.safetensors", f"{pair}/tuned/model.safetensors"
os.makedirs(out, exist_ok=True)


def measure(words, clean=(), **more):
    """Wall seconds and peak resident MB of one run."""
    for path in clean:
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status: sys.exit(f"{' '.join(words)} failed with status {status}")
    return seconds, usage.ru_maxrss / 1024


def forget(path):
    """Takes a file out of the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def extract(name, rank, layers=None):
    """Extraction of all layers, or of the first ones alone."""
    some = ["--include", "layers\\.(%s)\\." % "|".join(map(str, range(layers)))] if layers else []
    return [options.program, "extract", "--base", f"{pair}/base", "--tuned", f"{pair}/tuned", "-o", f"{out}/{name}", "--rank", str(rank), *some, "--quiet"], [f"{out}/{name}"]


unmerge = [options.program, "unmerge", f"{out}/merged", f"{out}/adapter", "-o", f"{out}/unmerged", "--quiet"], [f"{out}/unmerged"]
merged = f"{out}/merged/model.safetensors"
quarter = max(1, options.layers // 4)
commands = {
    "cat base tuned": (["cat", base, tuned], []),
    "cp base": (["cp", "--reflink=never", base, f"{out}/copy"], [f"{out}/copy"]),
    "extract --rank 16": extract("adapter", 16),
    "quarter of the layers": extract("quarter", 16, quarter),
    "four times as many": extract("whole", 16, 4 * quarter),
    "extract --rank 128": extract("adapter-128", 128),
    "merge": ([options.program, "merge", f"{pair}/base", f"{out}/adapter", "-o", f"{out}/merged", "--quiet"], [f"{out}/merged"]),
    "cp base, flushed": (["sh", "-c", f"cp --reflink=never {base} {out}/copy && sync {out}/copy"], [f"{out}/copy"]),
    "cp merged, from disk": (["cp", "--reflink=never", merged, f"{out}/copy"], [f"{out}/copy"]),
    "unmerge, from disk": unmerge,
    "cat base merged": (["cat", base, merged], []),
    "unmerge": unmerge,
    "verify": ([options.program, "verify", "--base", f"{pair}/base", "--adapter", f"{out}/adapter", "--merged", f"{out}/merged", "--quiet"], []),
}
if options.peers:
    commands["torch.svd_lowrank"] = ([sys.executable, f"{here}/peer_lowrank.py", base, tuned, f"{out}/peer.safetensors"], [])
    commands["torch merge loop"] = ([sys.executable, f"{here}/stream_merge.py", base, f"{out}/adapter", f"{out}/peer-merged.safetensors"], [f"{out}/peer-merged.safetensors"])
measure(["cat", base, tuned])
times, peaks = {name: [] for name in commands}, {name: 0 for name in commands}
for _ in range(options.rounds):
    for name, (words, clean) in commands.items():
        if name.endswith("from disk"): forget(merged)
        seconds, peak = measure(words, clean)
        times[name].append(seconds)
        peaks[name] = max(peaks[name], peak)
ratio = lambda a, b: statistics.median(x / y for x, y in zip(times[a], times[b]))
print(f"{'command':22} {'median s':>9} {'min':>7} {'max':>7} {'peak MB':>8}")
for name in commands:
    print(f"{name:22} {statistics.median(times[name]):9.2f} {min(times[name]):7.2f} {max(times[name]):7.2f} {peaks[name]:8.0f}")
print(f"extract / cat base tuned: {ratio('extract --rank 16', 'cat base tuned'):.2f}")
print(f"four times the layers:    {ratio('four times as many', 'quarter of the layers'):.2f} times the time")
print(f"merge / cp base:          {ratio('merge', 'cp base'):.2f}")
print(f"merge / cp base, flushed: {ratio('merge', 'cp base, flushed'):.2f}")
print(f"unmerge / cp base:        {ratio('unmerge', 'cp base'):.2f}")
print(f"unmerge / cp, from disk:  {ratio('unmerge, from disk', 'cp merged, from disk'):.2f}")
print(f"verify / cat base merged: {ratio('verify', 'cat base merged'):.2f}")
if options.peers:
    print(f"torch.svd_lowrank / extract: {ratio('torch.svd_lowrank', 'extract --rank 16'):.2f}")
    print(f"torch merge loop / merge:    {ratio('torch merge loop', 'merge'):.2f}")

# How far from the optimum: float64 eigenvalues of one layer's deltas, by numpy.
report = json.loads(subprocess.run([*commands["extract --rank 16"][0][:-1], "--force", "--json"], check=True, capture_output=True).stdout)
import numpy as np
from ml_dtypes import bfloat16
found = {module["tensor"]: module for module in report["modules"]}
best = captured = 0.0


def tensor(path, name):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        return np.frombuffer(file.read(end - begin), bfloat16).astype(np.float64).reshape(entry["shape"])


for name in [n for n in found if n.startswith("model.layers.0.") and len(found[n]["shape"]) == 2]:
    delta = tensor(tuned, name) - tensor(base, name)
    gram = delta @ delta.T if delta.shape[0] <= delta.shape[1] else delta.T @ delta
    best += np.linalg.eigvalsh(gram)[-16:].sum()
    captured += found[name]["captured_energy"] * found[name]["delta_norm"] ** 2
print(f"captured energy of layer 0: {captured / best:.6f} of the optimum; of the model: {report['totals']['captured_energy']:.6f}")
