// Pictures: files of every kind as PIL reads them, resizing to PIL's bytes, and files that are no pictures.
#include "data/picture.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/random.h"
#include "data/picture_scores.h"
#include "tests/errors.h"
#include "tests/root.h"
#include "tests/temp_dir.h"

using namespace qd;
using namespace qd::test;

namespace {

std::string from_base64(const std::string& text) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const size_t value = std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").find(c);
    bits = bits << 6 | static_cast<uint32_t>(value), count += 6;
    if (count >= 8) count -= 8, out += static_cast<char>(bits >> count & 0xFF);
  }
  return out;
}

Picture pattern(int64_t width, int64_t height) {   // as in make_picture_golden.py
  Picture p{width, height, {}};
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c)
        p.bytes.push_back(static_cast<uint8_t>((x * 7 + y * 13 + c * 29 + (x * y * 5) % (17 + c)) * (1 + (x / 4 + y / 5) % 3) % 256));
  return p;
}

int largest_difference(const Picture& p, const std::string& bytes) {
  if (p.bytes.size() != bytes.size()) return 256;
  int most = 0;
  for (size_t i = 0; i < bytes.size(); ++i) most = std::max(most, std::abs(p.bytes[i] - static_cast<int>(static_cast<unsigned char>(bytes[i]))));
  return most;
}

nlohmann::json golden_pictures() { return nlohmann::json::parse(read_file(root() + "/tests/golden/pictures.json")); }

}  // namespace

TEST_CASE("picture: files of every kind give PIL's pixels, and what cannot be shown is refused") {
  const nlohmann::json golden = golden_pictures();
  REQUIRE(golden["files"].size() == 14);
  for (const auto& entry : golden["files"]) {
    const std::string name = entry["name"], file = from_base64(entry["file"]);
    INFO(name);
    if (entry["tolerance"] < 0) {
      const std::string error = message_of([&] { decode_picture(file, name); });
      CHECK(has(error, name));
      CHECK(has(error, name == "cmyk.jpg" ? "four (CMYK)" : "pixels, got 20000 x 20000"));
      continue;
    }
    const Picture p = decode_picture(file, name);
    CHECK(p.width == entry["width"]);
    CHECK(p.height == entry["height"]);
    CHECK(largest_difference(p, from_base64(entry["pixels"])) <= entry["tolerance"].get<int>());
    if (name.ends_with(".jpg"))
      for (const size_t more : {1, 2, 3, 4})   // the end may stand behind anything
        CHECK(decode_picture(file.substr(0, file.size() - 2) + std::string(more, '\0') + file.substr(file.size() - 2), name).bytes == p.bytes);
    // A file that was cut off anywhere is an error or, where only what follows the pixels is missing, the same picture.
    for (size_t length = 0; length < file.size(); ++length) {
      try {
        const Picture cut = decode_picture(std::string_view(file).substr(0, length), name);
        CHECK(cut.bytes == p.bytes);
      } catch (const Error& error) {
        CHECK(has(error.what(), name));
      }
    }
    // Damaged bytes give an error or a picture, and nothing else.
    Random random(1, file.size());
    for (int i = 0; i < 200; ++i) {
      std::string damaged = file;
      for (int k = 0; k < 3; ++k) damaged[random.next() % damaged.size()] = static_cast<char>(random.next());
      try {
        const Picture some = decode_picture(damaged, name);
        CHECK(some.bytes.size() == static_cast<size_t>(some.width * some.height * 3));
      } catch (const Error& error) {
        CHECK(has(error.what(), name));
      }
    }
  }
}

TEST_CASE("picture: PGM and PPM of any largest value, of one byte or two") {
  const auto bytes = [](const std::string& file) { return decode_picture(file, "p").bytes; };
  CHECK(bytes(std::string("P5 2 1 15\n\x00\x0f", 12)) == std::vector<uint8_t>{0, 0, 0, 255, 255, 255});
  CHECK(bytes(std::string("P6\n# a\n1 1 1023\n\x02\x00\x03\xff\x00\x01", 23)) == std::vector<uint8_t>{128, 255, 0});
  CHECK(bytes(std::string("P5 1 2 65535 \xab\xcd\x00\xff", 17)) == std::vector<uint8_t>{171, 171, 171, 1, 1, 1});
  CHECK(bytes(std::string("P5 1 1 100 \xff", 12)) == std::vector<uint8_t>{255, 255, 255});   // above the largest
  for (const char* head : {"P5 1 1 0 x", "P5 0 1 9 x", "P5 1 1 65536 xx", "P5 1 1", "P5 1 x 9 y", "P6 99999 99999 255 x", "P5 2 2 255 xyz"})
    CHECK(has(message_of([&] { decode_picture(head, "p.pgm"); }), "[p.pgm] expected"));
}

TEST_CASE("picture: a PNG that unpacks to far more than its head says, and a large file that is none") {
  const TempDir folder;
  // Pictures of 1 x 1, without checksums, which stb does not look at.
  const auto number = [](size_t n) { return std::string{static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n)}; };
  const auto chunk = [&](const std::string& name, const std::string& body) { return number(body.size()) + name + body + std::string(4, '\0'); };
  const auto head_of = [&](size_t width) { return std::string("\x89PNG\r\n\x1a\n", 8) + chunk("IHDR", number(width) + number(1) + std::string("\x08\x02\x00\x00\x00", 5)); };
  const std::string head = head_of(1);
  const std::string small = head + chunk("IDAT", std::string("\x78\x01\x01\x04\x00\xfb\xff\x00\x01\x02\x03", 11)) + chunk("IEND", "");
  CHECK(decode_picture(small, "small").bytes == std::vector<uint8_t>{1, 2, 3});
  // Runs of zeros, of which a fixed Huffman code repeats 258 in 13 bits.
  std::string runs("\x78\x01", 2);
  uint32_t bits = 0;
  int held = 0;
  const auto put = [&](uint32_t value, int count) {
    for (bits |= value << held, held += count; held >= 8; bits >>= 8, held -= 8) runs += static_cast<char>(bits & 0xff);
  };
  put(3, 3);                                                      // last block, fixed codes
  put(0b00001100, 8);                                             // a zero: 00110000, its first bit lowest
  for (int i = 0; i < 100'000; ++i) put(0b10100011, 8), put(0, 5);   // length 258: 11000101; distance 1
  put(0, 7 + 8);
  CHECK(has(message_of([&] { decode_picture(head + chunk("IDAT", runs) + chunk("IEND", ""), "bomb.png"); }), "[bomb.png] expected a whole picture, this one is damaged (it unpacks to more than its head says)"));
  CHECK(has(message_of([&] { decode_picture(head_of(100'000) + chunk("IDAT", runs) + chunk("IEND", ""), "thin.png"); }), "[thin.png] expected a whole picture"));
  write_file(folder / "zeros.bin", std::string(100, '\0'));
  CHECK(has(message_of([&] { read_picture(folder / "zeros.bin"); }), "expected a picture, this is none"));
  CHECK(has(message_of([&] { png_bytes({40'000, 40'000, {1}}); }), "expected a picture of at most 2 GiB, got 40000 x 40000"));
}

TEST_CASE("picture: no picture at all") {
  CHECK(has(message_of([] { decode_picture("", "empty.jpg"); }), "[empty.jpg] expected a picture, the file is empty"));
  CHECK(has(message_of([] { decode_picture("P5 99999999999 1 255\n", "long.pgm"); }), "[long.pgm] expected numbers of one to nine digits"));
  CHECK(has(message_of([] { decode_picture("P5 # a comment", "cut.pgm"); }), "cut.pgm"));
  CHECK(has(message_of([] { decode_picture("just text", "text.jpg"); }), "[text.jpg] expected a picture, this is none"));
  CHECK(has(message_of([] { read_picture("/no/such.png"); }), "/no/such.png"));
}

TEST_CASE("picture: resized to PIL's bytes") {
  const nlohmann::json golden = golden_pictures();
  REQUIRE(golden["resizes"].size() == 9);
  for (const auto& entry : golden["resizes"]) {
    INFO(entry["from"].dump(), " to ", entry["to"].dump());
    const Picture p = resize(pattern(entry["from"][0], entry["from"][1]), entry["to"][0], entry["to"][1]);
    CHECK(p.width == entry["to"][0]);
    CHECK(largest_difference(p, from_base64(entry["pixels"])) == 0);
  }
  CHECK(has(message_of([] { resize(pattern(2, 2), 0, 3); }), "expected sizes above 0"));
}

TEST_CASE("picture: the middle square") {
  const Picture p = pattern(7, 4), square = center_crop(p, 0, "p"), small = center_crop(p, 3, "p");
  CHECK(square.width == 4);
  CHECK(small.height == 3);
  for (int64_t y = 0; y < 4; ++y)
    for (int64_t i = 0; i < 12; ++i) CHECK(square.bytes[static_cast<size_t>(y * 12 + i)] == p.bytes[static_cast<size_t>(y * 21 + 3 + i)]);
  CHECK(small.bytes[0] == p.bytes[2 * 3]);
  CHECK(has(message_of([&] { center_crop(p, 5, "p.png"); }), "[p.png] expected a picture of at least 5 x 5 to crop, got 7 x 4"));
}

TEST_CASE("picture: PNG files come back, grids have gaps") {
  const TempDir folder;
  const Picture a = pattern(5, 3), b = pattern(5, 3);
  write_png(folder / "a.png", a);
  CHECK(read_picture(folder / "a.png").bytes == a.bytes);
  const std::vector<Picture> three = {a, b, a};
  const Picture g = grid(three, 2, 1);
  CHECK(g.width == 11);
  CHECK(g.height == 7);
  CHECK(g.bytes[5 * 3] == 255);                                           // between the columns
  CHECK(g.bytes[static_cast<size_t>((4 * 11 + 0) * 3)] == a.bytes[0]);    // the third picture
  CHECK(g.bytes[static_cast<size_t>((4 * 11 + 6) * 3)] == 255);           // nothing beside it
  const std::vector<Picture> uneven = {a, pattern(4, 3)};
  CHECK(has(message_of([&] { grid(uneven, 2); }), "expected pictures of 5 x 3, got 4 x 3"));
}

TEST_CASE("picture: enlarged by squares") {
  const Picture p = pattern(3, 2), large = enlarged(p, 4);
  CHECK(large.width == 12);
  CHECK(large.height == 8);
  for (int64_t y = 0; y < 8; ++y)
    for (int64_t i = 0; i < 36; ++i) CHECK(large.bytes[static_cast<size_t>(y * 36 + i)] == p.bytes[static_cast<size_t>(y / 4 * 9 + i / 12 * 3 + i % 3)]);
  CHECK(enlarged(p, 1).bytes == p.bytes);
  CHECK(has(message_of([&] { enlarged(p, 0); }), "expected a factor above 0"));
}

TEST_CASE("picture: scores of pictures are those of their definitions") {
  const Picture a = pattern(24, 20);
  CHECK(ssim(a, a) == doctest::Approx(1));
  Picture b = a;
  for (uint8_t& byte : b.bytes) byte = static_cast<uint8_t>(byte / 2);
  CHECK(ssim(a, b) < 0.95);
  CHECK(ssim(a, b) == doctest::Approx(ssim(b, a)));
  Picture flat = a, lighter = a;   // without any structure only the brightness counts: (2 m n + c) / (m^2 + n^2 + c)
  std::fill(flat.bytes.begin(), flat.bytes.end(), uint8_t{100});
  std::fill(lighter.bytes.begin(), lighter.bytes.end(), uint8_t{150});
  CHECK(ssim(flat, lighter) == doctest::Approx((2.0 * 100 * 150 + 6.5025) / (100 * 100 + 150 * 150 + 6.5025)));
  CHECK(has(message_of([&] { ssim(a, pattern(20, 24)); }), "expected pictures of one size"));
  const std::vector<float> x = {-1, 0, 1}, y = {-3, 0.5f, 1};
  CHECK(picture_mse(x, y) == doctest::Approx(0.0625 / 3));   // values outside count as the nearest inside
  CHECK(psnr(0.01) == doctest::Approx(20));
  CHECK(psnr(0) == 100);
  const std::string jpeg = jpeg_bytes(a, 95);
  CHECK(decode_picture(jpeg, "jpeg").width == 24);
  CHECK(jpeg_bytes(a, 10).size() < jpeg.size());
  const std::vector<Picture> both = {a, b};
  const double few = jpeg_size(both, 15), more = jpeg_size(both, 25);
  CHECK(few > jpeg_head);
  CHECK(few < more);
  CHECK(jpeg_size(both, 100) == 0);
  CHECK(picture_mse(a, a) == 0);
  CHECK(has(message_of([&] { picture_mse(a, pattern(3, 3)); }), "expected pictures of one size"));
}
