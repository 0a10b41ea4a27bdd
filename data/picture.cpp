#include "data/picture.h"

#include <algorithm>
#include <cctype>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "core/file.h"

namespace {
// What stb may take in one piece. The data of a PNG may unpack to any size, whatever its head says: it must not.
thread_local size_t allocation_limit = 0;
void* limited(void* old, size_t bytes) { return bytes <= allocation_limit ? std::realloc(old, bytes) : nullptr; }
}  // namespace
#define STBI_MALLOC(bytes) limited(nullptr, bytes)
#define STBI_REALLOC(old, bytes) limited(old, bytes)
#define STBI_FREE(memory) std::free(memory)
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_NO_PSD
#define STBI_NO_PIC
#define STBI_NO_GIF
#define STBI_NO_PNM
#define STBI_MAX_DIMENSIONS (1 << 24)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBIW_ASSERT(x)
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace qd {
namespace {

// What stb does not look at in a JPEG: how many components it has, whether its end is there (a file that was cut off would decode to a picture
// with a grey rest), and whether its Huffman tables have at most 256 codes (with more it writes behind an array).
struct JpegFacts {
  int components = 0;
  bool ends = false, tables_fit = true;
};

// Behind the marker a JPEG begins with, before which FF may stand any number of times; 0: it is none.
size_t jpeg_begin(std::string_view file) {
  size_t at = 0;
  while (at < file.size() && file[at] == '\xFF') ++at;
  return at > 0 && at < file.size() && file[at] == '\xD8' ? at + 1 : 0;
}

JpegFacts jpeg_facts(std::string_view file) {
  JpegFacts facts;
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(file[at]); };
  size_t at = jpeg_begin(file);
  while (at + 2 <= file.size()) {
    if (byte(at) != 0xFF) {   // entropy-coded data, or dirt: on to the next marker
      ++at;
      continue;
    }
    const int marker = byte(at + 1);
    if (marker == 0xFF) {
      ++at;
    } else if (marker == 0 || marker == 1 || (marker >= 0xD0 && marker <= 0xD8)) {
      at += 2;
    } else if (marker == 0xD9) {
      facts.ends = true;
      return facts;
    } else if (at + 4 > file.size()) {
      break;
    } else {
      const size_t length = static_cast<size_t>(byte(at + 2)) << 8 | byte(at + 3);
      const bool is_frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
      if (is_frame && at + 9 < file.size()) facts.components = byte(at + 9);
      for (size_t table = at + 4, end = at + 2 + length; marker == 0xC4 && table < end && table + 17 <= file.size();) {
        size_t codes = 0;
        for (size_t i = 1; i <= 16; ++i) codes += byte(table + i);
        facts.tables_fit = facts.tables_fit && codes <= 256;
        table += 17 + codes;
      }
      at += 2 + std::max<size_t>(length, 2);
    }
  }
  return facts;
}

constexpr const char* kinds_hint = "JPEG, PNG, BMP, TGA and binary PGM and PPM are read";

bool is_pnm(std::string_view file) { return file.starts_with("P5") || file.starts_with("P6"); }

// Binary PGM and PPM: width, height and largest value, with white space and comments around, one more character, then the pixels, of two bytes, the
// higher first, where values above 255 occur. (stb takes the wrong byte of the two, and every largest value for 255.)
Picture decode_pnm(std::string_view file, const std::string& name) {
  size_t at = 2, numbers[3] = {};
  for (size_t& number : numbers) {
    while (at < file.size() && (std::isspace(static_cast<unsigned char>(file[at])) || file[at] == '#'))
      at = file[at] == '#' ? std::min(file.find_first_of("\r\n", at), file.size()) : at + 1;
    const size_t begin = at;
    for (; at < file.size() && file[at] >= '0' && file[at] <= '9'; ++at)
      if (at - begin < 9) number = number * 10 + static_cast<size_t>(file[at] - '0');
    QD_CHECK(at > begin && at - begin <= 9, name, "expected numbers of one to nine digits in the head of the picture, got something else", kinds_hint);
  }
  ++at;
  const auto [width, height, most] = numbers;
  QD_CHECK(width > 0 && height > 0 && most > 0 && most < 65536, name,
           str("expected a width and a height above 0 and a largest value of 1 to 65535, got ", width, ", ", height, " and ", most), kinds_hint);
  QD_CHECK(width * height <= static_cast<size_t>(most_pixels), name, str("expected at most ", most_pixels, " pixels, got ", width, " x ", height),
           "make it smaller first");
  const size_t channels = file[1] == '6' ? 3 : 1, bytes = most > 255 ? 2 : 1;
  QD_CHECK(file.size() >= at + width * height * channels * bytes, name,
           str("expected a whole picture of ", width, " x ", height, ", got ", file.size(), " bytes"), "the file was cut off: copy it again");
  Picture picture{static_cast<int64_t>(width), static_cast<int64_t>(height), {}};
  picture.bytes.resize(width * height * 3);
  const auto* from = reinterpret_cast<const unsigned char*>(file.data()) + at;
  for (size_t i = 0; i < picture.bytes.size(); ++i) {
    const unsigned char* value = from + (channels == 3 ? i : i / 3) * bytes;
    const size_t v = bytes == 2 ? static_cast<size_t>(value[0]) << 8 | value[1] : value[0];
    picture.bytes[i] = static_cast<uint8_t>(std::min<size_t>((v * 255 + most / 2) / most, 255));
  }
  return picture;
}

// By its first bytes; a TGA has no mark of its own, but few headers make sense.
bool may_be_picture(std::string_view head) {
  if (jpeg_begin(head) > 0 || head.starts_with("\x89PNG") || head.starts_with("BM") || is_pnm(head)) return true;
  if (head.size() < 18) return false;
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(head[at]); };
  const int kind = byte(2) & ~8, bits = byte(16);
  return byte(1) <= 1 && kind >= 1 && kind <= 3 && byte(2) < 12 && (bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32);
}

// Of formats whose pixels are simply there stb takes what lies behind the end for black. How many bytes a whole file has at least; 0: stb
// itself notices (PNG, JPEG), or the header makes no sense, which it will say.
size_t least_size(std::string_view file, size_t width, size_t height) {
  const auto number = [&](size_t at, size_t bytes) {   // lowest byte first
    size_t value = 0;
    for (size_t i = 0; i < bytes && at + i < file.size(); ++i) value |= static_cast<size_t>(static_cast<unsigned char>(file[at + i])) << 8 * i;
    return value;
  };
  if (jpeg_begin(file) > 0 || file.starts_with("\x89PNG")) return 0;
  if (file.starts_with("BM")) {
    const bool old = number(14, 4) == 12;
    const size_t bits = number(old ? 24 : 28, 2), compression = old ? 0 : number(30, 4);
    return compression == 0 || compression == 3 ? number(10, 4) + (width * bits + 31) / 32 * 4 * height : 0;
  }
  // TGA: its header, a name, a palette, then pixels, or runs of them.
  const size_t kind = number(2, 1), bytes = (number(16, 1) + 7) / 8;
  size_t at = 18 + number(0, 1) + (number(1, 1) == 1 ? number(5, 2) * ((number(7, 1) + 7) / 8) : 0);
  if (kind < 8) return at + width * height * bytes;
  for (size_t pixels = 0; pixels < width * height;) {
    if (at >= file.size()) return at + 1;
    const size_t head = number(at, 1), count = (head & 0x7F) + 1;
    pixels += count;
    at += 1 + bytes * (head & 0x80 ? 1 : count);
  }
  return at;
}

// Weights of the source pixels of one target pixel, in fixed point.
struct Taps {
  int64_t first = 0;
  std::vector<int32_t> weights;
};
constexpr int precision = 22;   // bits: 32 - 8 for the byte - 2, as in PIL

std::vector<Taps> triangle(int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double support = std::max(scale, 1.0), step = 1.0 / support;
  std::vector<Taps> taps(static_cast<size_t>(to));
  std::vector<double> weights;
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const auto last = std::min<int64_t>(from, static_cast<int64_t>(center + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int64_t x = first; x < last; ++x) {
      const double distance = std::abs((static_cast<double>(x) - center + 0.5) * step);
      weights.push_back(distance < 1 ? 1 - distance : 0);
      sum += weights.back();
    }
    Taps& t = taps[static_cast<size_t>(i)];
    t.first = first;
    for (const double w : weights) {
      const double scaled = w / sum * (1 << precision);
      t.weights.push_back(static_cast<int32_t>(scaled + 0.5));
    }
  }
  return taps;
}

void append_to(void* text, void* data, int size) {
  static_cast<std::string*>(text)->append(static_cast<const char*>(data), static_cast<size_t>(size));
}

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> precision, 0, 255)); }   // 255 * 2^22 fits

}  // namespace

Picture decode_picture(std::string_view file, const std::string& name) {
  QD_CHECK(!file.empty(), name, "expected a picture, the file is empty", kinds_hint);
  QD_CHECK(file.size() <= most_bytes, name, str("expected a file of at most ", most_bytes >> 20, " MiB, got ", file.size() >> 20));
  if (is_pnm(file)) return decode_pnm(file, name);
  const auto* data = reinterpret_cast<const stbi_uc*>(file.data());
  const int size = static_cast<int>(file.size());
  if (jpeg_begin(file) > 0) {
    const JpegFacts facts = jpeg_facts(file);
    QD_CHECK(facts.components != 4, name, "expected grey or three colours, the JPEG has four (CMYK)", "convert it to RGB");
    QD_CHECK(facts.tables_fit, name, "expected Huffman tables of at most 256 codes, the JPEG has a longer one", "the file is damaged: copy it again");
    QD_CHECK(facts.ends, name, "expected a whole JPEG, its end is missing", "the file was cut off: copy it again");
  }
  int width = 0, height = 0, channels = 0;
  allocation_limit = size_t{1} << 20;
  QD_CHECK(stbi_info_from_memory(data, size, &width, &height, &channels) != 0 && width > 0 && height > 0, name,
           str("expected a picture, this is none (", stbi_failure_reason(), ")"), kinds_hint);
  QD_CHECK(int64_t{width} * height <= most_pixels, name,
           str("expected at most ", most_pixels, " pixels, got ", width, " x ", height), "make it smaller first");
  QD_CHECK(file.size() >= least_size(file, static_cast<size_t>(width), static_cast<size_t>(height)), name,
           str("expected a whole picture of ", width, " x ", height, ", got ", file.size(), " bytes"), "the file was cut off: copy it again");
  // Four channels of two bytes, twice where a buffer grows, and the blocks of a JPEG at its edges.
  const size_t w = static_cast<size_t>(width), h = static_cast<size_t>(height), edge = jpeg_begin(file) > 0 ? 64 : 1;
  allocation_limit += 2 * file.size() + 20 * (w + edge) * (h + edge);
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(stbi_load_from_memory(data, size, &width, &height, &channels, 0), stbi_image_free);
  const bool too_much = pixels == nullptr && std::string_view(stbi_failure_reason()) == "outofmem";
  QD_CHECK(pixels != nullptr, name, str("expected a whole picture, this one is damaged (", too_much ? "it unpacks to more than its head says" : stbi_failure_reason(), ")"),
           "copy it again");
  Picture picture{width, height, {}};
  picture.bytes.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  const stbi_uc* from = pixels.get();
  const bool is_colour = channels >= 3, is_transparent = channels == 2 || channels == 4;
  for (size_t i = 0; i < picture.bytes.size(); i += 3, from += channels)
    for (size_t c = 0; c < 3; ++c) {
      const int value = from[is_colour ? c : 0];
      picture.bytes[i + c] = static_cast<uint8_t>(is_transparent ? (value * from[channels - 1] + 127) / 255 : value);
    }
  return picture;
}

Picture read_picture(const std::string& path) {
  const InputFile file(path);
  std::string bytes(std::min<size_t>(file.size(), 64), '\0');
  file.read(bytes.data(), bytes.size(), 0);
  if (bytes.empty() || file.size() > most_bytes || !may_be_picture(bytes)) {   // whatever it is, it is not read to its end
    QD_CHECK(!bytes.empty(), path, "expected a picture, the file is empty", kinds_hint);
    QD_CHECK(!may_be_picture(bytes), path, str("expected a file of at most ", most_bytes >> 20, " MiB, got ", file.size() >> 20));
    fail(path, "expected a picture, this is none", kinds_hint);
  }
  const size_t head = bytes.size();
  bytes.resize(file.size());
  file.read(bytes.data() + head, bytes.size() - head, head);
  return decode_picture(bytes, path);
}

Picture center_crop(const Picture& picture, int64_t side, const std::string& name) {
  if (side == 0) side = std::min(picture.width, picture.height);
  QD_CHECK(side > 0 && side <= picture.width && side <= picture.height, name,
           str("expected a picture of at least ", side, " x ", side, " to crop, got ", picture.width, " x ", picture.height),
           "--crop 0 takes the largest square");
  const int64_t left = (picture.width - side) / 2, top = (picture.height - side) / 2;
  Picture out{side, side, {}};
  out.bytes.resize(static_cast<size_t>(side * side * 3));
  for (int64_t y = 0; y < side; ++y)
    std::memcpy(out.bytes.data() + y * side * 3, picture.bytes.data() + ((top + y) * picture.width + left) * 3, static_cast<size_t>(side * 3));
  return out;
}

Picture resize(const Picture& picture, int64_t width, int64_t height) {
  QD_CHECK(width > 0 && height > 0 && width * height <= most_pixels && !picture.empty(), "resize",
           str("expected sizes above 0, got ", picture.width, " x ", picture.height, " to ", width, " x ", height));
  constexpr int32_t half = 1 << (precision - 1);
  Picture across{width, picture.height, {}};
  if (width == picture.width) {
    across.bytes = picture.bytes;
  } else {
    across.bytes.resize(static_cast<size_t>(width * picture.height * 3));
    const std::vector<Taps> taps = triangle(picture.width, width);
    for (int64_t y = 0; y < picture.height; ++y) {
      const uint8_t* from = picture.bytes.data() + y * picture.width * 3;
      uint8_t* to = across.bytes.data() + y * width * 3;
      for (const Taps& t : taps) {
        const uint8_t* p = from + t.first * 3;
        int32_t sum[3] = {half, half, half};
        for (const int32_t w : t.weights)
          for (int32_t& s : sum) s += w * *p++;
        for (const int32_t s : sum) *to++ = to_byte(s);
      }
    }
  }
  if (height == picture.height) return across;
  Picture out{width, height, {}};
  out.bytes.resize(static_cast<size_t>(width * height * 3));
  const std::vector<Taps> taps = triangle(picture.height, height);
  std::vector<int32_t> sums(static_cast<size_t>(width * 3));
  for (int64_t y = 0; y < height; ++y) {
    const Taps& t = taps[static_cast<size_t>(y)];
    std::fill(sums.begin(), sums.end(), half);
    const uint8_t* p = across.bytes.data() + t.first * width * 3;
    for (const int32_t w : t.weights)
      for (int32_t& s : sums) s += w * *p++;
    uint8_t* to = out.bytes.data() + y * width * 3;
    for (const int32_t s : sums) *to++ = to_byte(s);
  }
  return out;
}

Picture enlarged(const Picture& picture, int64_t times) {
  QD_CHECK(times > 0 && picture.width * picture.height * times * times <= most_pixels, "enlarge", str("expected a factor above 0 that fits, got ", times));
  Picture out{picture.width * times, picture.height * times, {}};
  out.bytes.reserve(static_cast<size_t>(out.width * out.height * 3));
  for (int64_t y = 0; y < out.height; ++y)
    for (int64_t x = 0; x < out.width; ++x) {
      const auto pixel = picture.bytes.begin() + (y / times * picture.width + x / times) * 3;
      out.bytes.insert(out.bytes.end(), pixel, pixel + 3);
    }
  return out;
}

std::string png_bytes(const Picture& picture) {
  QD_CHECK(!picture.empty() && (picture.width * 3 + 1) * picture.height <= INT_MAX, "png",
           str("expected a picture of at most 2 GiB, got ", picture.width, " x ", picture.height));
  std::string bytes;
  const int wrote = stbi_write_png_to_func(append_to, &bytes, static_cast<int>(picture.width), static_cast<int>(picture.height), 3,
                                           picture.bytes.data(), static_cast<int>(picture.width * 3));
  QD_CHECK(wrote != 0, "png", "expected enough memory for a picture");
  return bytes;
}

std::string jpeg_bytes(const Picture& picture, int quality) {
  QD_CHECK(!picture.empty() && quality >= 1 && quality <= 100, "jpeg", str("expected a picture and a quality from 1 to 100, got ", quality));
  std::string bytes;
  const int wrote = stbi_write_jpg_to_func(append_to, &bytes, static_cast<int>(picture.width), static_cast<int>(picture.height), 3,
                                           picture.bytes.data(), quality);
  QD_CHECK(wrote != 0, "jpeg", "expected enough memory for a picture");
  return bytes;
}

void write_png(const std::string& path, const Picture& picture) { write_file(path, png_bytes(picture)); }

Picture grid(std::span<const Picture> pictures, int64_t columns, int64_t gap) {
  QD_CHECK(!pictures.empty() && columns > 0 && gap >= 0, "grid", str("expected pictures and columns, got ", pictures.size(), " and ", columns));
  const int64_t width = pictures[0].width, height = pictures[0].height;
  columns = std::min<int64_t>(columns, std::ssize(pictures));
  const int64_t rows = (std::ssize(pictures) + columns - 1) / columns;
  Picture out{columns * (width + gap) - gap, rows * (height + gap) - gap, {}};
  out.bytes.resize(static_cast<size_t>(out.width * out.height * 3));
  std::fill(out.bytes.begin(), out.bytes.end(), uint8_t{255});
  for (int64_t i = 0; i < std::ssize(pictures); ++i) {
    const Picture& p = pictures[static_cast<size_t>(i)];
    QD_CHECK(p.width == width && p.height == height, "grid", str("expected pictures of ", width, " x ", height, ", got ", p.width, " x ", p.height));
    for (int64_t y = 0; y < height; ++y)
      std::memcpy(out.bytes.data() + (((i / columns) * (height + gap) + y) * out.width + (i % columns) * (width + gap)) * 3,
                  p.bytes.data() + y * width * 3, static_cast<size_t>(width * 3));
  }
  return out;
}

}  // namespace qd
