// Pictures of bytes: decoding, cropping and resizing as PIL does, PNG files, grids.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qd {

// Red, green and blue, a byte each, rows from the top on.
struct Picture {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> bytes;   // (height, width, 3)
  bool empty() const { return bytes.empty(); }
};

constexpr int64_t most_pixels = int64_t{1} << 26;   // of a file that is opened: what claims more is refused before any memory is taken
constexpr size_t most_bytes = size_t{1} << 30;      // of the file itself

// The picture in a file's bytes: JPEG, PNG, BMP, TGA, binary PGM and PPM, told by what they hold and not by their names. Grey becomes
// colour, 16 bits become 8, what is transparent stands before black. Throws Error about `name`: another or a damaged format,
// CMYK, a JPEG without its end, more than most_pixels or most_bytes, a PNG that unpacks to far more than its head says.
Picture decode_picture(std::string_view file, const std::string& name);
Picture read_picture(const std::string& path);   // throws Error: cannot be read, or as above. What is no picture is not read to its end

// The square of `side` pixels in the middle; side 0: the largest one. Odd rests fall to the right and below, as in torchvision's
// CenterCrop for an even rest. Throws Error: the picture is smaller.
Picture center_crop(const Picture& picture, int64_t side, const std::string& name);

// As PIL's Image.resize(BILINEAR): a triangle of the width of a pixel, widened for shrinking; across first, then down, in fixed point of
// 22 bits with bytes between the passes. The bytes are PIL's.
Picture resize(const Picture& picture, int64_t width, int64_t height);

Picture enlarged(const Picture& picture, int64_t times);   // every pixel as a square of times x times

void write_png(const std::string& path, const Picture& picture);   // whole or not at all
std::string png_bytes(const Picture& picture);
std::string jpeg_bytes(const Picture& picture, int quality);   // 1 to 100, as stb writes it

// Pictures of one size, `columns` in a row, `gap` white pixels between them.
Picture grid(std::span<const Picture> pictures, int64_t columns, int64_t gap = 2);

}  // namespace qd
