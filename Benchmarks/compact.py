#!/usr/bin/env python3
"""Sizes of compact adapter files beside what else makes adapters small, and beside what theory allows.

    compact.py PROGRAM FOLDER [--pair BASE TUNED] [--peft FOLDER] [--plot SVG] [--speed ADAPTER]

Extracts adapters of rank 8, 16 and 64 in f32, bf16 and f16 from the pair into FOLDER, converts them with PROGRAM, and prints
tables in Markdown. Every stated error is recomputed from the files by fixtures/read_lra.py, which knows only the manual page.
Needs numpy; zip and zstd are used where they are installed.
"""
import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "fixtures"))
from read_lra import Lra  # noqa: E402

CURVE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def run(*words):
    """User seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def tensors(path):
    """The tensors of a safetensors file as float64."""
    with open(path, "rb") as file:
        data = file.read()
    start = 8 + int.from_bytes(data[:8], "little")
    result = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__" or not entry["dtype"].endswith(("F16", "F32")):
            continue
        low, high = (start + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data[low:high], "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data[low:high], {"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
        result[name] = values.astype(np.float64).reshape(entry["shape"])
    return result


def pairs(path):
    """The factors of every module by its name: up (out x rank), down (rank x in)."""
    found, result = tensors(path), {}
    for key, value in found.items():
        name = key.removeprefix("base_model.model.")
        if key.endswith(".lora_A.weight"):
            up, down = found[key.replace("lora_A", "lora_B")], value
        elif key.endswith(".lora_embedding_A"):
            up, down = found[key.replace("embedding_A", "embedding_B")], value
            up, down = (down.T, up.T)
        else:
            continue
        result[name.rsplit(".lora_", 1)[0]] = (up.reshape(up.shape[0], -1), down.reshape(down.shape[0], -1))
    return result


def squares(up, down, up2, down2):
    """Squared Frobenius norms of up2 down2 - up down and of up down, without forming either."""
    outer, inner = np.hstack([up2 - up, up2]), np.vstack([down, down2 - down])
    error = np.sum((outer.T @ outer) * (inner @ inner.T))
    return max(float(error), 0), float(np.sum((up.T @ up) * (down @ down.T)))


def stated(modules, path):
    """The largest relative error of a module, and that of all together, of the quantised pairs of a compact file."""
    file, worst, total, energy = Lra(path), 0, 0, 0
    for module in file.header["adapter"]["modules"]:
        if module["update"]["kind"] != "low-rank" or module["name"] not in modules:
            continue
        up, down = (file.matrix(module["update"][side]) for side in ("up", "down"))
        old_up, old_down = modules[module["name"]]
        if up.shape[1] != old_up.shape[1]:
            rank = max(up.shape[1], old_up.shape[1])
            wider = lambda m: np.pad(m, ((0, 0), (0, rank - m.shape[1])))
            up, down, old_up, old_down = wider(up), wider(down.T).T, wider(old_up), wider(old_down.T).T
        error, norm = squares(old_up, old_down, up, down)
        worst, total, energy = max(worst, (error / norm) ** 0.5), total + error, energy + norm
    return worst, (total / energy) ** 0.5


def per_row(matrix, bits):
    """Symmetric integers with a float16 scale a row."""
    top = 2 ** (bits - 1) - 1
    scale = (np.abs(matrix).max(axis=1, keepdims=True) / top).astype(np.float16).astype(np.float64)
    scale[scale == 0] = 1
    return np.clip(np.rint(matrix / scale), -top, top) * scale


def integers(modules, bits):
    """Bytes, and the error of all modules together, of per-row quantisation; rows of up or of its transpose, as does best."""
    size, total, energy = 0, 0, 0
    for up, down in modules.values():
        options = []
        for turned in (False, True):
            rounded = per_row(up.T, bits).T if turned else per_row(up, bits)
            error, norm = squares(up, down, rounded, per_row(down, bits))
            scales = (up.shape[1] if turned else up.shape[0]) + down.shape[0]
            options.append((error, (up.size + down.size) * bits // 8 + 2 * scales, norm))
        error, own, norm = min(options)
        size, total, energy = size + own, total + error, energy + norm
    return size, (total / energy) ** 0.5


def theory(modules, error):
    """Bits of the Gaussian rate-distortion function at one relative error for every module.

    The numbers of the balanced factors are taken for independent Gaussians, whose variance is that of their component times
    that of their row of the delta, or column; reverse water-filling shares the error between them (Cover & Thomas, Elements of
    Information Theory, theorem 10.3.3). What a reader must be told of these variances is not counted.
    """
    bits = 0
    for up, down in modules.values():
        (left, first), (right, second) = np.linalg.qr(up), np.linalg.qr(down.T)
        turn, values, back = np.linalg.svd(first @ second.T)
        power = values ** 2
        variances = [np.outer((side ** 2).mean(axis=1), power) for side in (left @ turn, right @ back.T)]
        low, high, wanted = 0.0, max(v.max() for v in variances), error ** 2 * power.sum()
        for _ in range(40):
            water = (low + high) / 2
            lost = sum(np.minimum(v, water).sum(axis=0) for v in variances)
            low, high = (water, high) if np.minimum(lost, power).sum() < wanted else (low, water)
        bits += sum(0.5 * np.log2(np.maximum(v / low, 1)).sum() for v in variances)
    return bits


def packed(path, folder):
    """Bytes under zip -9 and zstd -19; None where the tool is not there."""
    sizes = []
    for tool, words in (("zip", ["zip", "-9", "-q", "-j"]), ("zstd", ["zstd", "-19", "-q", "-f", "-o"])):
        target = os.path.join(folder, "packed." + tool)
        if shutil.which(tool):
            run(*words, target, path)
            sizes.append(os.path.getsize(target))
            os.remove(target)
        else:
            sizes.append(None)
    return sizes


class Bench:
    def __init__(self, options):
        self.program, self.folder = options.program, options.folder
        os.makedirs(self.folder, exist_ok=True)

    def compact(self, adapter, *said):
        """Path of the adapter as a compact file."""
        output = os.path.join(self.folder, "x.lra")
        run(self.program, "convert", adapter, "-o", output, "--force", "--quiet", *said)
        return output

    def extracted(self, pair):
        for rank in (8, 16, 64):
            for dtype in ("f32", "bf16", "f16"):
                output = os.path.join(self.folder, f"rank {rank} {dtype}")
                if not os.path.exists(output):
                    run(self.program, "extract", "--base", pair[0], "--tuned", pair[1], "-o", output, "--quiet",
                        "--rank", str(rank), "--dtype", dtype, "--exclude", "Norm|norm|bias|token_type")
                yield output

    def table(self, adapters):
        print("| adapter | safetensors | zip -9 | zstd -19 | exact | 1 % | 5 % | 15 % | int8 at E | .lra at E | int4 at E "
              "| .lra at E |\n|---|" + "---:|" * 11)
        for adapter in adapters:
            path = os.path.join(adapter, "adapter_model.safetensors")
            modules, plain = pairs(path), os.path.getsize(path)
            share = lambda size: "-" if size is None else f"{size / plain:.3f}"
            row = [share(size) for size in packed(path, self.folder)]
            row.append(share(os.path.getsize(self.compact(adapter))))
            for error in (0.01, 0.05, 0.15):
                output = self.compact(adapter, "--max-error", str(error))
                worst, _ = stated(modules, output)
                if worst > error * (1 + 1e-9):
                    sys.exit(f"{adapter}: {worst} for a stated {error}")
                row.append(share(os.path.getsize(output)))
            for bits in (8, 4):
                size, error = integers(modules, bits)
                output = self.compact(adapter, "--max-error-total", repr(error))
                if stated(modules, output)[1] > error * (1 + 1e-9):
                    sys.exit(f"{adapter}: {stated(modules, output)[1]} for a stated {error} in total")
                row += [f"{share(size)} at {100 * error:.2g} %", share(os.path.getsize(output))]
            print(f"| {os.path.basename(adapter.removesuffix('/adapter'))} | {plain} | " + " | ".join(row) + " |", flush=True)

    def curve(self, adapter):
        """Points of error and bits a parameter: ours, theory's, and those of integers with 8 to 2 bits."""
        modules = pairs(os.path.join(adapter, "adapter_model.safetensors"))
        count = sum(up.size + down.size for up, down in modules.values())
        ours, best = [], []
        print(f"\nbits a parameter of {os.path.basename(adapter)}\n\n| error | .lra | theory | apart |\n|---|---:|---:|---:|")
        for error in CURVE:
            size = os.path.getsize(self.compact(adapter, "--max-error", str(error)))
            ours.append((error, 8 * size / count))
            best.append((error, theory(modules, error) / count))
            print(f"| {100 * error:g} % | {ours[-1][1]:.2f} | {best[-1][1]:.2f} | {ours[-1][1] - best[-1][1]:.2f} |", flush=True)
        rows = [(error, 8 * size / count) for size, error in (integers(modules, bits) for bits in range(8, 1, -1))]
        exact = 8 * os.path.getsize(self.compact(adapter)) / count
        return {"compact": ours, "theory": best, "integers a row": rows}, exact

    def speed(self, adapter):
        """Megabytes of tensors a second of user time; start-up is taken off."""
        path = os.path.join(adapter, "adapter_model.safetensors")
        size = os.path.getsize(path) / 1e6
        start = min(run(self.program, "--version") for _ in range(5))
        print(f"\n{size:.0f} MB of safetensors, MB a second of user time\n")
        for name, said in (("exact", ()), ("1 %", ("--max-error", "0.01")), ("5 %", ("--max-error", "0.05"))):
            write = min(self.timed(adapter, *said) for _ in range(3)) - start
            read = min(run(self.program, "check", os.path.join(self.folder, "x.lra")) for _ in range(3)) - start
            print(f"{name}: written {size / write:.0f}, read and checked {size / read:.0f}", flush=True)

    def timed(self, adapter, *said):
        return run(self.program, "convert", adapter, "-o", os.path.join(self.folder, "x.lra"), "--force", "--quiet", *said)


def plot(curves, exact, path):
    """A plot as SVG: bits a parameter over the relative error, which has a logarithmic axis."""
    left, top, width, height = 48, 16, 560, 300
    low, high, most = np.log10(0.001), np.log10(0.4), 16
    x = lambda error: left + width * (np.log10(error) - low) / (high - low)
    y = lambda bits: top + height * (1 - bits / most)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 16} {top + height + 44}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>']
    text = lambda at, down, words, more="": out.append(f'<text x="{at:.1f}" y="{down:.1f}" {more}>{words}</text>')
    for bits in range(0, most + 1, 4):
        out.append(f'<path d="M{left} {y(bits):.1f}h{width}" stroke="#ddd"/>')
        text(left - 6, y(bits) + 4, bits, 'text-anchor="end"')
    for error in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3):
        out.append(f'<path d="M{x(error):.1f} {top}v{height}" stroke="#ddd"/>')
        text(x(error), top + height + 16, f"{100 * error:g} %", 'text-anchor="middle"')
    text(left + width / 2, top + height + 36, "relative error of every module's delta", 'text-anchor="middle"')
    text(left + 4, top - 4, "bits a parameter")
    out.append(f'<path d="M{left} {y(exact):.1f}h{width}" stroke="#06c" stroke-dasharray="6 3"/>')
    text(left + width - 4, y(exact) - 4, f"compact, exact (bf16): {exact:.1f}", 'fill="#06c" text-anchor="end"')
    colours = {"compact": "#06c", "theory": "#888", "integers a row": "#c30"}
    for place, (name, points) in enumerate(curves.items()):
        shown = [(x(error), y(bits)) for error, bits in points if 0.001 <= error <= 0.4 and bits <= most]
        line = "L".join(f"{at:.1f} {down:.1f}" for at, down in shown)
        out.append(f'<path d="M{line}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
        if name != "theory":
            out += [f'<circle cx="{at:.1f}" cy="{down:.1f}" r="3" fill="{colours[name]}"/>' for at, down in shown]
        text(left + 16, y(2.9 - 1.1 * place), name, f'fill="{colours[name]}"')
    with open(path, "w") as file:
        file.write("\n".join(out + ["</svg>\n"]))


def main():
    fixtures = os.path.join(HERE, "..", "fixtures")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("--pair", nargs=2, default=[f"{fixtures}/demo/base", f"{fixtures}/demo/tuned"])
    parser.add_argument("--peft", default=f"{fixtures}/adapters/peft", help="a folder of folders with adapter/")
    parser.add_argument("--plot", help="write the curve of rank 16 in bf16 here")
    parser.add_argument("--speed", help="measure speed on this adapter, which should be large")
    options = parser.parse_args()
    bench = Bench(options)
    if options.speed:
        return bench.speed(options.speed)
    adapters = list(bench.extracted(options.pair))
    peft = [os.path.join(options.peft, name, "adapter") for name in ("lora-linear", "lora-conv", "lora-embedding")]
    bench.table(adapters + peft)
    curves, exact = bench.curve(os.path.join(options.folder, "rank 16 bf16"))
    bench.curve(os.path.join(options.folder, "rank 64 bf16"))
    if options.plot:
        plot(curves, exact, options.plot)


if __name__ == "__main__":
    main()
