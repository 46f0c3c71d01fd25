"""Measures `batch` on many small adapters: beside a shell loop over the same program and a Python loop, and when nothing is left to do.

Each adapter is a PEFT one of 24 pairs (1024 x 1024, rank 8, float32, 1.6 MB) and becomes a kohya file. Rounds take turns; figures are
medians. usage: batch.py PROGRAM FOLDER [--files N] [--rounds N] [--peers]
"""
import argparse, json, os, shutil, statistics, struct, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("program"), parser.add_argument("folder")
parser.add_argument("--files", type=int, default=200), parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--peers", action="store_true", help="also run a Python loop (needs numpy and safetensors)")
parser.add_argument("--peer-loop", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
options = parser.parse_args()
program, folder = os.path.abspath(options.program), os.path.abspath(os.path.join(options.folder, "batch"))


def peer_loop(source, target):
    """What a careful script does: read, rename, write beside, flush, rename."""
    from safetensors.numpy import load_file, save_file
    import numpy
    for name in sorted(os.listdir(source)):
        alpha = json.load(open(f"{source}/{name}/adapter_config.json"))["lora_alpha"]
        out = {}
        for key, value in load_file(f"{source}/{name}/adapter_model.safetensors").items():
            stem, side = key.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
            stem = "lora_unet_" + stem.replace(".", "_")
            out[f"{stem}.lora_{'down' if side == 'A' else 'up'}.weight"] = value
            out[f"{stem}.alpha"] = numpy.array(alpha, numpy.float32)
        path = f"{target}/{name}.safetensors"
        save_file(out, path + ".part")
        with open(path + ".part", "rb") as file: os.fsync(file.fileno())
        os.rename(path + ".part", path)


if options.peer_loop:
    peer_loop(*options.peer_loop)
    sys.exit()


def adapter(path, seed):
    os.makedirs(path)
    names = [f"base_model.model.layers.{i}.proj.lora_{side}.weight" for i in range(24) for side in "AB"]
    block = (seed % 251 + 1).to_bytes(1, "little") * 3 + b"\x3c"
    header, at = {}, 0
    for name in names:
        header[name] = {"dtype": "F32", "shape": [8, 1024] if ".lora_A" in name else [1024, 8], "data_offsets": [at, at + 32768]}
        at += 32768
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}/adapter_model.safetensors", "wb") as file: file.write(struct.pack("<Q", len(text)) + text + block * (at // 4))
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["proj"], "bias": "none"}
    json.dump(config, open(f"{path}/adapter_config.json", "w"))


def timed(words, **more):
    """Wall and processor seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    if status: sys.exit(f"{' '.join(words)} failed with status {status}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def recipe(name, count):
    path = f"{folder}/{name}.yaml"
    for leftover in [path + ".state.jsonl", f"{folder}/{name}"]:
        shutil.rmtree(leftover, ignore_errors=True) if os.path.isdir(leftover) else os.path.exists(leftover) and os.remove(leftover)
    items = [f"in/{i:04}" for i in range(count)]
    with open(path, "w") as file:
        file.write("jobs:\n  - convert: { for-each: [%s], input: '{path}', to: kohya, output: '%s/{name}.safetensors' }\n" % (", ".join(items), name))
    return path


shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
for index in range(max(options.files, 1000)): adapter(f"{folder}/in/{index:04}", index)
loop = "for i in in/*; do n=${i##*/}; [ $((10#$n)) -lt %d ] || break; \"$0\" convert $i --to kohya -o loop/$n.safetensors -q; done" % options.files
runs = {"shell loop": [], "batch --jobs 1": [], "batch --jobs 2": []}
if options.peers: runs["Python loop"] = []
for _ in range(options.rounds):
    for name in runs:
        if name == "shell loop":
            shutil.rmtree(f"{folder}/loop", ignore_errors=True)
            os.makedirs(f"{folder}/loop")
            runs[name].append(timed(["bash", "-c", loop, program], cwd=folder))
        elif name == "Python loop":
            shutil.rmtree(f"{folder}/peer", ignore_errors=True), shutil.rmtree(f"{folder}/few", ignore_errors=True)
            os.makedirs(f"{folder}/peer"), os.makedirs(f"{folder}/few")
            for index in range(options.files): os.symlink(f"{folder}/in/{index:04}", f"{folder}/few/{index:04}")
            runs[name].append(timed([sys.executable, __file__, program, options.folder, "--peer-loop", f"{folder}/few", f"{folder}/peer"]))
        else:
            runs[name].append(timed([program, "batch", recipe("out", options.files), "-q", *name.split()[1:]]))
print(f"{options.files} adapters of 1.6 MB")
print(f"{'':16} {'s':>7} {'files/s':>8} {'CPU ms a file':>14}")
for name, all_times in runs.items():
    wall, processor = (statistics.median(t[i] for t in all_times) for i in (0, 1))
    print(f"{name:16} {wall:7.2f} {options.files / wall:8.0f} {processor / options.files * 1000:14.2f}")
median = lambda name: statistics.median(t[0] for t in runs[name])
print(f"--jobs 2 against --jobs 1: {median('batch --jobs 1') / median('batch --jobs 2'):.2f}")
thousand = recipe("thousand", 1000)
timed([program, "batch", thousand, "-q"])
again = [timed([program, "batch", thousand, "-q"]) for _ in range(max(5, options.rounds))]
print(f"1000 finished jobs gone through in {statistics.median(t[0] for t in again):.3f} s ({statistics.median(t[1] for t in again):.3f} s of CPU)")
# Jobs that do next to nothing: what a batch adds to each, and what each record costs as the file grows.
for count in (100, 1000):
    with open(f"{folder}/tiny.yaml", "w") as file: file.write("jobs:\n" + "".join(f"  - inspect: {{ paths: in/{i:04} }}\n" for i in range(count)))
    if os.path.exists(f"{folder}/tiny.yaml.state.jsonl"): os.remove(f"{folder}/tiny.yaml.state.jsonl")
    wall, processor = timed([program, "batch", f"{folder}/tiny.yaml", "-q", "--jobs", "1"])
    print(f"{count} inspect jobs: {wall / count * 1000:.2f} ms each ({processor / count * 1000:.2f} ms of CPU)")
shutil.rmtree(folder)
