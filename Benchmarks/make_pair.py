"""Writes a base and a fine-tune of a real model's shapes (TinyLlama, 1.1 billion parameters), in bfloat16, 2.2 GB each.

tuned = base + U diag(s) V' + noise, with s decaying as i^-0.7 over 64 directions, so that the delta has the slowly decaying
spectrum of a full fine-tune. Embedding, head and norms do not change. Streams tensor by tensor. Needs numpy and ml_dtypes.
usage: make_pair.py FOLDER [LAYERS]
"""
import json, os, struct, sys
import numpy as np
from ml_dtypes import bfloat16

folder, layers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 22
HIDDEN, INNER, KV, VOCABULARY, DIRECTIONS = 2048, 5632, 256, 32000, 64
random = np.random.Generator(np.random.SFC64(7))
shapes = {"lm_head.weight": (VOCABULARY, HIDDEN), "model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
for layer in range(layers):
    stem = f"model.layers.{layer}."
    shapes |= {
        stem + "self_attn.q_proj.weight": (HIDDEN, HIDDEN), stem + "self_attn.k_proj.weight": (KV, HIDDEN),
        stem + "self_attn.v_proj.weight": (KV, HIDDEN), stem + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        stem + "mlp.gate_proj.weight": (INNER, HIDDEN), stem + "mlp.up_proj.weight": (INNER, HIDDEN),
        stem + "mlp.down_proj.weight": (HIDDEN, INNER),
        stem + "input_layernorm.weight": (HIDDEN,), stem + "post_attention_layernorm.weight": (HIDDEN,)}
header, position = {"__metadata__": {"format": "pt"}}, 0
for name, shape in shapes.items():
    size = 2 * int(np.prod(shape))
    header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
    position += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
config = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=HIDDEN, intermediate_size=INNER,
    num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=4, vocab_size=VOCABULARY, rms_norm_eps=1e-5,
    tie_word_embeddings=False, torch_dtype="bfloat16", max_position_embeddings=2048, hidden_act="silu",
    rope_theta=10000.0, bos_token_id=1, eos_token_id=2)
files = {}
for part in ("base", "tuned"):
    os.makedirs(f"{folder}/{part}", exist_ok=True)
    with open(f"{folder}/{part}/config.json", "w") as file: json.dump(config, file, indent=1)
    files[part] = open(f"{folder}/{part}/model.safetensors", "wb")
    files[part].write(struct.pack("<Q", len(text)) + text)
normal = lambda *shape: random.standard_normal(shape, dtype=np.float32)
for name, shape in shapes.items():
    weight = 0.02 * normal(*shape) if len(shape) == 2 else np.ones(shape, np.float32)
    files["base"].write(weight.astype(bfloat16).tobytes())
    if len(shape) == 2 and ".layers." in name:
        left, right = normal(shape[0], DIRECTIONS) / shape[0] ** 0.5, normal(DIRECTIONS, shape[1]) / shape[1] ** 0.5
        weight += (left * (0.5 * np.arange(1, DIRECTIONS + 1, dtype=np.float32) ** -0.7)) @ right + 1e-4 * normal(*shape)
    files["tuned"].write(weight.astype(bfloat16).tobytes())
for file in files.values(): file.close()
