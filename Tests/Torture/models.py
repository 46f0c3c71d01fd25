"""Writes the models and adapters that the harness works on: models.py FOLDER MEGABYTES, the size of the middle one."""
import json, os, struct, sys

SIDE, RANK = 256, 4
state = 1


def pattern(count, low=0x3C00, span=0x300):
    """Finite bfloat16 numbers of both signs, the same in every run."""
    global state
    out = bytearray()
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out += struct.pack("<H", (low + (state >> 33) % span) | (0x8000 if state >> 63 else 0))
    return bytes(out)


def write(path, tensors):
    """Writes tensors of name: (shape, bytes); a number of bytes instead of bytes leaves a hole."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    header, position = {}, 0
    for name, (shape, data) in tensors.items():
        size = data if isinstance(data, int) else len(data)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            if isinstance(data, int):
                file.seek(data, os.SEEK_CUR)
            else:
                file.write(data)
        file.truncate()


def text(path, value):
    with open(path, "w") as file:
        json.dump(value, file)


def adapter(folder, names, rows, columns):
    up, down = pattern(rows * RANK), pattern(columns * RANK)
    tensors = {}
    for name in names:
        tensors[f"base_model.model.{name}.lora_A.weight"] = ([RANK, columns], down)
        tensors[f"base_model.model.{name}.lora_B.weight"] = ([rows, RANK], up)
    write(f"{folder}/adapter_model.safetensors", dict(sorted(tensors.items())))
    text(f"{folder}/adapter_config.json",
         {"peft_type": "LORA", "r": RANK, "lora_alpha": 1, "target_modules": ["q_proj"]})


def model(megabytes, data):
    tensors = {}
    for layer in range(4 * megabytes):
        for name in ("q_proj", "other"):
            tensors[f"layers.{layer}.{name}.weight"] = ([SIDE, SIDE], data)
    return dict(sorted(tensors.items()))


def sharded(folder, tensors):
    """Three shards, each a link as in the cache of Hugging Face."""
    names, index = sorted(tensors), {}
    for shard in range(3):
        part = names[shard::3]
        name = f"model-{shard + 1:05}-of-00003.safetensors"
        write(f"{folder}/blobs/{shard}", {key: tensors[key] for key in part})
        os.makedirs(f"{folder}/model", exist_ok=True)
        os.symlink(f"../blobs/{shard}", f"{folder}/model/{name}")
        index.update({key: name for key in part})
    text(f"{folder}/model/model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    text(f"{folder}/model/config.json", {"model_type": "test"})


def main(folder, megabytes):
    data = pattern(SIDE * SIDE)
    for size, name in ((1, "small"), (megabytes, "middle")):
        tensors = model(size, data)
        write(f"{folder}/{name}/base.safetensors", tensors)
        adapter(f"{folder}/{name}/adapter", [f"layers.{i}.q_proj" for i in range(4 * size)], SIDE, SIDE)
    # Above the size from which an output goes past the page cache; the base is one hole.
    rows, columns = 1024, 2048
    large = {f"layers.{i}.{n}.weight": ([rows, columns], rows * columns * 2)
             for i in range(36) for n in ("q_proj", "other")}
    write(f"{folder}/large/base.safetensors", dict(sorted(large.items())))
    adapter(f"{folder}/large/adapter", [f"layers.{i}.q_proj" for i in range(0, 36, 12)], rows, columns)
    sharded(f"{folder}/sharded", model(1, data))
    components = {}
    for component in ("unet", "vae"):
        write(f"{folder}/pipeline/{component}/diffusion_pytorch_model.safetensors", model(1, data))
        text(f"{folder}/pipeline/{component}/config.json", {"_class_name": "Test"})
        components[component] = ["diffusers", "Test"]
    text(f"{folder}/pipeline/model_index.json", {"_class_name": "Pipeline", **components})


main(sys.argv[1], int(sys.argv[2]))
