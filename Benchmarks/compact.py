#!/usr/bin/env python3
"""Sizes of compact adapter files against safetensors, zip, zstd, per-row integers and theory.

    compact.py ADAPTER_FOLDER... [--convert COMMAND] [--curve]

COMMAND makes a compact file; {input}, {output} and {error} (0 for lossless) are replaced.
Needs numpy, torch and safetensors; zip and zstd are used where they are installed.
"""
import argparse
import os
import shlex
import shutil
import subprocess
import tempfile

import numpy as np
from safetensors import safe_open

DEFAULT = "lora-surgery convert {input} -o {output} --force {error}"


def pairs(path):
    """The factors of every module: up (out x rank), down (rank x in)."""
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
        tensors = {key: file.get_tensor(key).double().numpy() for key in keys}
    result = []
    for key in keys:
        if key.endswith("lora_A.weight"):
            result.append((tensors[key.replace("lora_A", "lora_B")], tensors[key]))
        elif key.endswith("lora_embedding_A"):
            result.append((tensors[key].T, tensors[key.replace("embedding_A", "embedding_B")].T))
    return [(up.reshape(up.shape[0], -1), down.reshape(down.shape[0], -1)) for up, down in result]


def spectrum(up, down):
    return np.linalg.svd(np.linalg.qr(up)[1] @ np.linalg.qr(down.T)[1].T, compute_uv=False)


def per_row(matrix, bits):
    """Symmetric integers with a float16 scale a row."""
    top = 2 ** (bits - 1) - 1
    scale = (np.abs(matrix).max(axis=1, keepdims=True) / top).astype(np.float16).astype(np.float64)
    scale[scale == 0] = 1
    return np.clip(np.rint(matrix / scale), -top, top) * scale


def product_error(up, down, up2, down2):
    """Frobenius norms of up2 down2 - up down and of up down, without forming either."""
    outer, inner = np.hstack([up2 - up, up2]), np.vstack([down, down2 - down])
    square = np.sum((outer.T @ outer) * (inner @ inner.T))
    norm = np.sum((up.T @ up) * (down @ down.T))
    return np.sqrt(max(square, 0)), np.sqrt(norm)


def integers(modules, bits):
    """Bytes, and the largest relative error of a module, of per-row quantisation; rows are those that do best."""
    size, worst = 0, 0
    for up, down in modules:
        options = []
        for turned in (False, True):
            first = per_row(up.T, bits).T if turned else per_row(up, bits)
            error, norm = product_error(up, down, first, per_row(down, bits))
            scales = (up.shape[1] if turned else up.shape[0]) + down.shape[0]
            options.append((error / norm, (up.size + down.size) * bits // 8 + 2 * scales))
        error, own = min(options)
        size, worst = size + own, max(worst, error)
    return size, worst


def theory(modules, error):
    """Bits of the Gaussian rate-distortion function, all elements of a component alike."""
    bits = 0
    for up, down in modules:
        values = spectrum(up, down)
        out, inputs = up.shape[0], down.shape[1]
        variances = np.concatenate([values ** 2 / out, values ** 2 / inputs])
        counts = np.concatenate([np.full(len(values), out), np.full(len(values), inputs)])
        low, high, wanted = 0.0, variances.max(), error ** 2 * np.sum(values ** 2)
        for _ in range(80):
            water = (low + high) / 2
            low, high = (water, high) if np.sum(counts * np.minimum(variances, water)) < wanted else (low, water)
        bits += np.sum(counts * np.maximum(0, 0.5 * np.log2(variances / low)))
    return bits


def compressed(path, folder):
    """Bytes under zip -9 and zstd -19."""
    sizes = {}
    if shutil.which("zip"):
        target = os.path.join(folder, "x.zip")
        subprocess.run(["zip", "-9", "-q", "-j", target, path], check=True)
        sizes["zip -9"] = os.path.getsize(target)
        os.remove(target)
    if shutil.which("zstd"):
        sizes["zstd -19"] = len(subprocess.run(["zstd", "-19", "-c", "-q", path], check=True, capture_output=True).stdout)
    return sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="+")
    parser.add_argument("--convert", default=DEFAULT)
    parser.add_argument("--curve", action="store_true", help="print error, bits per parameter and theory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        def size(adapter, error):
            output = os.path.join(folder, "x.lra")
            said = "" if not error else f"--max-error {error}" if "--force" in options.convert else repr(error)
            command = options.convert.format(input=shlex.quote(adapter), output=output, error=said or "")
            subprocess.run(shlex.split(command), check=True, stdout=subprocess.DEVNULL)
            return os.path.getsize(output)

        for adapter in options.adapters:
            path = adapter if os.path.isfile(adapter) else os.path.join(adapter, "adapter_model.safetensors")
            modules, plain = pairs(path), os.path.getsize(path)
            count = sum(up.size + down.size for up, down in modules)
            print(f"\n{adapter}: {plain} bytes, {count} parameters in pairs")
            rows = list(compressed(path, folder).items()) + [("compact, lossless", size(adapter, 0))]
            for name, found in rows:
                print(f"  {name:28}{found:10}  {found / plain:.3f}")
            for bits in (8, 4):
                found, error = integers(modules, bits)
                own = size(adapter, round(float(error), 6))
                print(f"  int{bits} a row, error {error:.4f}   {found:10}  {found / plain:.3f}"
                      f"   compact at that error {own} ({own / found:.2f} of it)")
            for error in (0.001, 0.003, 0.01, 0.03, 0.05, 0.15, 0.3) if options.curve else (0.01, 0.05, 0.15):
                found = size(adapter, error)
                print(f"  compact, error {error:<13}{found:10}  {found / plain:.3f}   {8 * found / count:.2f} bits a"
                      f" parameter, Gaussian theory {theory(modules, error) / count:.2f}")


if __name__ == "__main__":
    main()
