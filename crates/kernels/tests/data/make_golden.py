"""Makes the fixtures of this folder: for each quantized format, two blocks of random bytes with sane scales, followed by
the f32 values that the reference reader gives (little-endian). Needs: pip install gguf==0.19.0 numpy

Where the package has a quantizer, NAME.quantized.bin holds 256 f32 values followed by their blocks. grids.bin holds a
CRC-32 of the points of each grid, since two blocks meet only few of them."""

import zlib
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

FOLDER = Path(__file__).parent
# Where the half-precision scales of a block are.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "TQ1_0": [52], "TQ2_0": [64],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [],
}
random = np.random.default_rng(20)

for name, halves in HALVES.items():
    kind = GGMLQuantizationType[name]
    values, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (2, size), dtype=np.uint8)
    scales = random.uniform(-0.1, 0.1, (2, 2)).astype(np.float16)
    for row in range(2):
        for i, offset in enumerate(halves):
            blocks[row, offset : offset + 2] = scales[row, i : i + 1].view(np.uint8)
    if name == "MXFP4":
        blocks[:, 0] = [1, 125]  # the first below the normal range of f32
    if name == "IQ1_M":  # the scale lies in the top 4 bits of four words
        words = blocks[:, 48:56].copy().view(np.uint16)
        half = scales[:, :1].view(np.uint16)
        words = (words & 0x0FFF) | ((half >> np.array([[0, 4, 8, 12]], dtype=np.uint16)) << 12)
        blocks[:, 48:56] = words.astype(np.uint16).view(np.uint8)
    expected = quants.dequantize(blocks, kind)
    assert expected.shape == (2, values) and np.isfinite(expected).all()
    (FOLDER / f"{name.lower()}.bin").write_bytes(blocks.tobytes() + expected.astype("<f4").tobytes())

for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]:
    source = random.standard_normal(256, dtype=np.float32)
    source[64:96] = 0  # a block without a step
    blocks = quants.quantize(source, GGMLQuantizationType[name])
    (FOLDER / f"{name.lower()}.quantized.bin").write_bytes(source.astype("<f4").tobytes() + blocks.tobytes())

checksums = []
for name in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]:
    reader = getattr(quants, name)
    reader.init_grid()
    checksums.append(zlib.crc32(reader.grid.astype(np.int8).tobytes()))
(FOLDER / "grids.bin").write_bytes(np.array(checksums, dtype="<u4").tobytes())
