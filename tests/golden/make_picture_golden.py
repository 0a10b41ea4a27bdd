#!/usr/bin/python3
"""Makes pictures.json: small pictures as files of every kind, what PIL decodes from them, and what it makes of a pattern by resizing.

    python3 tests/golden/make_picture_golden.py            writes tests/golden/pictures.json
    python3 tests/golden/make_picture_golden.py --check    compares what it would write with the file that is there

Needs PIL (Debian: python3-pil). Files and pixels are base64. The pattern is a formula, which the test has as well.
"""
import base64
import io
import json
import pathlib
import struct
import sys
import zlib

from PIL import Image

FOLDER = pathlib.Path(__file__).parent
RESIZES = [(178, 178, 64, 64), (64, 64, 17, 23), (5, 7, 20, 9), (30, 20, 30, 7), (30, 20, 11, 20), (1, 1, 6, 6), (9, 9, 9, 9), (100, 3, 1, 1), (90, 70, 31, 40)]


def pattern(width, height):
    """Bytes with steep edges and smooth parts."""
    out = bytearray()
    for y in range(height):
        for x in range(width):
            for c in range(3):
                out.append((x * 7 + y * 13 + c * 29 + (x * y * 5) % (17 + c)) * (1 + (x // 4 + y // 5) % 3) % 256)
    return bytes(out)


def text(data):
    return base64.b64encode(data).decode()


def file_of(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png_16(width, height, values):
    """A grey PNG of 16 bits, which PIL of some versions does not write."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + b"".join(struct.pack(">H", values[y * width + x]) for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) +
            chunk(b"IEND", b""))


def main():
    width, height = 12, 10
    colour = Image.frombytes("RGB", (width, height), pattern(width, height))
    grey = colour.convert("L")
    smooth = Image.frombytes("RGB", (24, 16), bytes(min(255, 8 * x + 4 * y + 20 * c) for y in range(16) for x in range(24) for c in range(3)))
    values = [(x * 4001 + y * 977) % 65536 for y in range(5) for x in range(6)]
    bomb = png_16(1, 1, [0])
    bomb = bomb[:16] + struct.pack(">II", 20000, 20000) + bomb[24:29] + struct.pack(">I", zlib.crc32(bomb[12:16] + struct.pack(">II", 20000, 20000) + bomb[24:29])) + bomb[33:]
    files = {
        "rgb.png": (file_of(colour, "PNG"), colour, 0),
        "grey.png": (file_of(grey, "PNG"), grey.convert("RGB"), 0),
        "palette.png": (file_of(colour.quantize(8), "PNG"), colour.quantize(8).convert("RGB"), 0),
        "rgb.bmp": (file_of(colour, "BMP"), colour, 0),
        "grey.pgm": (file_of(grey, "PPM"), grey.convert("RGB"), 0),
        "rgb.ppm": (file_of(colour, "PPM"), colour, 0),
        "rgb.tga": (file_of(colour, "TGA"), colour, 0),
        "runs.tga": (file_of(colour, "TGA", compression="tga_rle"), colour, 0),
        "rgb.jpg": (file_of(smooth, "JPEG", quality=90, subsampling=0), None, 3),
        "progressive.jpg": (file_of(smooth, "JPEG", quality=90, progressive=True, subsampling=0), None, 3),
        "grey.jpg": (file_of(smooth.convert("L"), "JPEG", quality=90), None, 3),
        "cmyk.jpg": (file_of(smooth.convert("CMYK"), "JPEG"), None, -1),
        "bomb.png": (bomb, None, -1),
    }
    golden = {"files": [], "resizes": []}
    for name, (data, picture, tolerance) in files.items():
        if picture is None and tolerance >= 0:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
        entry = {"name": name, "file": text(data), "tolerance": tolerance}
        if picture is not None:
            entry |= {"width": picture.width, "height": picture.height, "pixels": text(picture.tobytes())}
        golden["files"].append(entry)
    deep = bytes(v >> 8 for v in values for _ in range(3))
    golden["files"].append({"name": "deep.png", "file": text(png_16(6, 5, values)), "tolerance": 0, "width": 6, "height": 5, "pixels": text(deep)})
    for w, h, to_w, to_h in RESIZES:
        out = Image.frombytes("RGB", (w, h), pattern(w, h)).resize((to_w, to_h), Image.BILINEAR)
        golden["resizes"].append({"from": [w, h], "to": [to_w, to_h], "pixels": text(out.tobytes())})
    written = json.dumps(golden, indent=0) + "\n"
    path = FOLDER / "pictures.json"
    if "--check" in sys.argv:
        same = path.read_text() == written
        print("the file is what would be written" if same else "the file differs from what would be written")
        return 0 if same else 1
    path.write_text(written)
    print(f"{path}: {len(written)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
