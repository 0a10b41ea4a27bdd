#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "tests/errors.h"
#include "tests/golden.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using test::message_of;
namespace fs = std::filesystem;

namespace {

// A file as someone else may write it; not synced, as write_file would, because there are thousands.
void make_file(const std::string& path, const std::string& header, const std::string& data, uint64_t length) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << header << data;
}
void make_file(const std::string& path, const std::string& header, const std::string& data) {
  make_file(path, header, data, header.size());
}

std::string refusal(const std::string& path) {
  const std::string message = message_of([&] { read_safetensors(path); });
  CHECK(message_of([&] { read_safetensors_texts(path); }) == message);
  return message;
}

// What a file with this header says, or "no error".
std::string refusal(const std::string& header, size_t data_bytes) {
  const test::TempDir folder;
  make_file(folder / "a.safetensors", header, std::string(data_bytes, '\1'));
  const std::string message = refusal(folder / "a.safetensors");
  if (message != "no error") CHECK(has(message, "[" + folder / "a.safetensors" + "] expected "));
  return message;
}

template <class T>
std::string bytes_of_all(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// One tensor "x" of the type, read back.
template <class T>
Tensor read_as(const std::string& type, const std::vector<T>& values) {
  const test::TempDir folder;
  const std::string data = bytes_of_all(values), shape = str("[", values.size(), "]"), offsets = str("[0,", data.size(), "]");
  make_file(folder / "x", R"({"x":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", data);
  return read_safetensors(folder / "x").tensors.at("x");
}

std::string content(const Tensor& x) {
  const int64_t bytes = bytes_of(x.dtype());
  return {static_cast<const char*>(x.storage()->data) + x.offset() * bytes, static_cast<size_t>(x.size() * bytes)};
}

void check_same(const State& a, const State& b) {
  CHECK(a.texts == b.texts);
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (const auto& item : a.tensors) {
    CAPTURE(item.first);
    REQUIRE(b.tensors.contains(item.first));
    const Tensor &x = item.second, &y = b.tensors.at(item.first);
    CHECK(x.shape() == y.shape());
    CHECK(x.dtype() == y.dtype());
    CHECK(content(x) == content(y));
  }
}

Tensor counting(const Shape& shape, DType dtype) {
  Tensor x = zeros(shape, dtype);
  for (int64_t i = 0; i < x.size(); ++i) {
    if (dtype == DType::f32) x.mutable_data()[i] = 0.1f * static_cast<float>(i) - 1;
    if (dtype == DType::i32) x.mutable_data<int32_t>()[i] = static_cast<int32_t>(i) * -1000003;
    if (dtype == DType::u8) x.mutable_data<uint8_t>()[i] = static_cast<uint8_t>(i * 37);
  }
  return x;
}

State everything() {
  State state;
  const Tensor whole = counting({5, 4}, DType::f32);
  state.tensors["whole"] = whole;
  state.tensors["view"] = whole.row_range(1, 3);
  state.tensors["ids"] = counting({2, 1, 3, 1, 2, 1}, DType::i32).row_range(1, 2);
  state.tensors["bytes"] = counting({7}, DType::u8).row_range(2, 5);
  state.tensors["scalar"] = full({}, -0.0f);
  state.tensors["nothing"] = zeros({3, 0, 2});
  state.tensors["no bytes"] = zeros({0}, DType::u8);
  state.tensors["名 \"quoted\"\n\t\\/\x01"] = full({1}, std::numeric_limits<float>::quiet_NaN());
  state.tensors[""] = full({1}, 1);
  state.texts["format"] = "pt";
  state.texts["字\"\\"] = std::string("多行\n\"text\"\x1f\U0001F600\0", 19) + "end";
  state.texts["empty"] = "";
  return state;
}

const char* const two = R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";

}  // namespace

TEST_CASE("safetensors: what is written is read: views, scalars, empty tensors, all types, any name") {
  const test::TempDir folder;
  const std::string path = folder / "a.safetensors";
  for (const State& state : {everything(), State{}}) {
    write_safetensors(path, state);
    check_same(read_safetensors(path), state);
    const std::string bytes = read_file(path);
    uint64_t length;
    std::memcpy(&length, bytes.data(), sizeof length);
    CHECK(length % 8 == 0);
    write_safetensors(path, state);
    CHECK(read_file(path) == bytes);
    CHECK(read_safetensors_texts(path).texts == state.texts);
    CHECK(read_safetensors_texts(path).tensors.empty());
  }
}

TEST_CASE("safetensors: numbers lie at multiples of their size") {
  const test::TempDir folder;
  State state;
  state.tensors["a"] = counting({3}, DType::u8);
  state.tensors["b"] = counting({2}, DType::f32);
  state.tensors["c"] = counting({1}, DType::u8);
  state.tensors["d"] = counting({1}, DType::i32);
  write_safetensors(folder / "x", state);
  const std::string bytes = read_file(folder / "x");
  CHECK(bytes.substr(8).starts_with(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                    R"("d":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},)"
                                    R"("a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]},)"
                                    R"("c":{"dtype":"U8","shape":[1],"data_offsets":[15,16]}})"));
  check_same(read_safetensors(folder / "x"), state);
}

TEST_CASE("safetensors: files made elsewhere") {
  for (const char* name : {"adamw", "attention", "block", "cross_entropy", "gpt2", "lamb", "ops", "positions", "sgd"}) {
    const State state = test::golden(name);
    CHECK(state.tensors.size() > 3);
    const test::TempDir folder;
    write_safetensors(folder / "copy", state);
    check_same(read_safetensors(folder / "copy"), state);
  }
  CHECK(test::golden("gpt2").text("width") == "24");
  const test::TempDir folder;   // blanks and line ends in the header, tensors in another order than their names
  make_file(folder / "a", R"( { "b" : {"shape":[ ],"data_offsets":[4,8],"dtype":"F32"}, "a":{"dtype":"I32",)" "\n\t"
                          R"("shape":[1,1],"data_offsets":[0,4]} }  )" "\n",
            bytes_of_all(std::vector<float>{0, 2.5f}));
  CHECK(read_safetensors(folder / "a").tensors.at("b").item() == 2.5f);
}

TEST_CASE("safetensors: F16 is widened, every bit pattern") {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const Tensor x = read_as("F16", all);
  int64_t wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                        : exponent == 0 ? std::ldexp(fraction, -24)
                                        : std::ldexp(1024 + fraction, exponent - 25);
    const float got = x.data()[bits];
    const bool same = std::isnan(size) ? std::isnan(got) : std::abs(got) == size;
    wrong += !same || std::signbit(got) != (bits >> 15 != 0);
  }
  CHECK(wrong == 0);
  const Tensor known = read_as<uint16_t>("F16", {0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x83FF, 0x8000, 0x7C00, 0xFC00, 0x3555});
  const uint32_t expected[] = {0x3F800000, 0xC0000000, 0x477FE000, 0x38800000, 0x33800000,
                               0xB87FC000, 0x80000000, 0x7F800000, 0xFF800000, 0x3EAAA000};
  CHECK(content(known) == std::string(reinterpret_cast<const char*>(expected), sizeof expected));
}

TEST_CASE("safetensors: BF16 is widened, every bit pattern") {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const std::string bits = content(read_as("BF16", all));
  std::vector<uint32_t> expected(65536);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<uint32_t>(i) * 65536;
  CHECK(bits == bytes_of_all(expected));
  const Tensor known = read_as<uint16_t>("BF16", {0x3F80, 0xC040, 0x7F80});
  CHECK(known.data()[0] == 1);
  CHECK(known.data()[1] == -3);
  CHECK(std::isinf(known.data()[2]));
}

TEST_CASE("safetensors: wider types become narrower ones only where they fit") {
  const Tensor x = read_as<double>("F64", {0.1, -1e-30, INFINITY, -INFINITY, NAN, 3.4028234663852886e38});
  CHECK(x.data()[0] == 0.1f);
  CHECK(x.data()[1] == -1e-30f);
  CHECK(x.data()[2] == INFINITY);
  CHECK(x.data()[3] == -INFINITY);
  CHECK(std::isnan(x.data()[4]));
  CHECK(x.data()[5] == std::numeric_limits<float>::max());
  CHECK(has(message_of([] { read_as<double>("F64", {1, 1e39}); }),
            "the F64 numbers of tensor 'x' to fit F32, number 1 does not"));

  std::vector<int64_t> ids(200000);   // more than one piece
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i) * 10001 - 1000000000;
  ids[1] = INT32_MIN, ids[2] = INT32_MAX;
  const Tensor y = read_as("I64", ids);
  CHECK(y.dtype() == DType::i32);
  CHECK(std::equal(ids.begin(), ids.end(), y.data<int32_t>()));
  ids[150000] = int64_t{INT32_MAX} + 1;
  CHECK(has(message_of([&] { read_as("I64", ids); }), "the I64 numbers of tensor 'x' to fit I32, number 150000 does not"));
  ids[150000] = int64_t{INT32_MIN} - 1;
  CHECK(has(message_of([&] { read_as("I64", ids); }), "number 150000"));

  const Tensor mask = read_as<uint8_t>("BOOL", {0, 1, 1});
  CHECK(mask.dtype() == DType::u8);
  CHECK(content(mask) == std::string("\0\1\1", 3));
  for (const std::string type : {"I8", "U16", "F8_E4M3", "U64", "f32", ""}) {
    CHECK(has(message_of([&] { read_as<uint8_t>(type, {1}); }),
              "expected tensor 'x' of type F32, F16, BF16, F64, I32, I64, U8 or BOOL, got '" + type + "'"));
  }
}

TEST_CASE("safetensors: every truncation and every byte too many is refused") {
  const test::TempDir folder;
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, everything());
  const auto size = static_cast<int64_t>(fs::file_size(path));
  std::ofstream(path, std::ios::app) << '\0';
  CHECK(has(refusal(path), "[" + path + "] expected "));
  for (int64_t cut = size - 1; cut >= 0; --cut) {
    fs::resize_file(path, static_cast<uintmax_t>(cut));
    REQUIRE(has(refusal(path), "[" + path + "] expected "));
  }
  try {
    read_safetensors(path);
  } catch (const Error& error) {
    CHECK(has(error.hint(), "is the file complete?"));
  }
}

TEST_CASE("safetensors: a damaged header is refused or reads as something whole") {
  const test::TempDir folder;
  const std::string path = folder / "a.safetensors";
  make_file(path, two, std::string("\0\0\x80\x3f\0\0\0\x40\1\2\3", 11));
  const std::string whole = read_file(path);
  REQUIRE(read_safetensors(path).tensors.size() == 2);
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  int64_t refused = 0, read = 0;
  for (size_t at = 0; at < whole.size() - 11; ++at) {
    std::string others = std::string("\"{}[],:0129-.eE \\ux\n\x7f\xff", 23) + '\0';
    for (int bit = 0; bit < 8; ++bit) others += static_cast<char>(whole[at] ^ 1 << bit);
    for (const char other : others) {
      if (other == whole[at]) continue;
      REQUIRE(pwrite(file, &other, 1, static_cast<off_t>(at)) == 1);
      const std::string message = message_of([&] {
        const State state = read_safetensors(path);
        int64_t bytes = 0;
        for (const auto& [name, x] : state.tensors) bytes += static_cast<int64_t>(content(x).size());
        REQUIRE(bytes <= 44);   // 11 bytes of single-byte numbers at most, none of them widened more than to F32
      });
      message == "no error" ? ++read : ++refused;
      if (message != "no error") REQUIRE(has(message, "[" + path + "] expected "));
    }
    REQUIRE(pwrite(file, &whole[at], 1, static_cast<off_t>(at)) == 1);
  }
  close(file);
  CHECK(refused > 3000);
  CHECK(read > 50);   // names and texts
  CHECK(read_safetensors(path).text("k") == "v");
}

TEST_CASE("safetensors: impossible header lengths are refused at once") {
  const test::TempDir folder;
  const std::string path = folder / "a.safetensors", header = two, data(11, '\1');
  const uint64_t size = 8 + header.size() + data.size();
  for (const uint64_t length : {size - 7, size, size + 1, uint64_t{1} << 31, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    make_file(path, header, data, length);
    CHECK(has(refusal(path), "[" + path + "] expected a header of "));
  }
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, header.size() - 1}) {
    make_file(path, header, data, length);
    CHECK(has(refusal(path), "expected a header in JSON, it is broken at its byte"));
  }
  make_file(path, header, data, 100'000'001);   // a hole takes no room on the disk
  fs::resize_file(path, 1'000'000'000);
  CHECK(has(refusal(path), "expected a header of at most 100000000 bytes, got a length of 100000001"));
}

TEST_CASE("safetensors: hostile headers") {
  const auto tensor = [](const std::string& fields) { return R"({"a":{)" + fields + "}}"; };
  const auto with = [&](const std::string& shape, const std::string& offsets, const std::string& dtype = "\"F32\"") {
    return tensor(R"("dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets);
  };
  REQUIRE(refusal(with("[2]", "[0,8]"), 8) == "no error");
  REQUIRE(refusal("{}", 0) == "no error");
  REQUIRE(refusal(with("[1,1,1,1,1,2]", "[0,8]"), 8) == "no error");

  const std::string b = R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":)";
  const auto pair = [&](const std::string& first, const std::string& second) {
    std::string header = with("[2]", first);
    header.resize(header.size() - 1);
    return header + b + second + "}}";
  };
  REQUIRE(refusal(pair("[0,8]", "[8,12]"), 12) == "no error");
  REQUIRE(refusal(pair("[4,12]", "[0,4]"), 12) == "no error");

  const std::string one = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  struct Case {
    std::string header;
    size_t data;
    std::string part;
  };
  const Case cases[] = {
      // where the numbers are
      {with("[2]", "[0,16]"), 8, "tensor 'a' within 8 bytes of data, got bytes 0 to 16"},
      {with("[2]", "[8,0]"), 8, "tensor 'a' within 8 bytes of data, got bytes 8 to 0"},
      {with("[2]", "[9223372036854775799,9223372036854775807]"), 8, "tensor 'a' within 8 bytes"},
      {with("[2]", "[0,9223372036854775808]"), 8, "from 0 on in data_offsets of tensor 'a', got 9223372036854775808"},
      {with("[2]", "[0,18446744073709551624]"), 8, "in data_offsets of tensor 'a'"},
      {with("[2]", "[-8,0]"), 8, "in data_offsets of tensor 'a', got -8"},
      {with("[2]", "[0,8.0]"), 8, "in data_offsets of tensor 'a', got 8"},
      {with("[2]", "[0]"), 8, "2 data_offsets of tensor 'a', got 1"},
      {with("[2]", "[]"), 8, "2 data_offsets of tensor 'a', got 0"},
      {with("[2]", "[0,8,8]"), 8, "at most 2 numbers in the data_offsets of tensor 'a'"},
      {with("[2]", "8"), 8, "a list as 'data_offsets' of 'a', got a number"},
      {with("[2]", "[0,8]"), 12, "8 bytes of data for 1 tensors, got 12"},
      {with("[2]", "[4,12]"), 12, "tensor 'a' to begin where the one before ends, at byte 0, got byte 4: there is a hole"},
      {pair("[0,8]", "[4,8]"), 8, "tensor 'b' to begin where the one before ends, at byte 8, got byte 4: they overlap"},
      {pair("[0,8]", "[0,4]"), 8, "they overlap"},
      {pair("[0,8]", "[12,16]"), 16, "tensor 'b' to begin where the one before ends, at byte 8, got byte 12: there is a hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"z":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})", 2, "'z'"},
      // shapes
      {with("[3]", "[0,8]"), 8, "12 bytes for tensor 'a', F32 (3), got 8"},
      {with("[]", "[0,8]"), 8, "4 bytes for tensor 'a', F32 (), got 8"},
      {with("[0,2]", "[0,8]"), 8, "0 bytes for tensor 'a', F32 (0, 2), got 8"},
      {with("[-2]", "[0,8]"), 8, "in shape of tensor 'a', got -2"},
      {with("[-0]", "[0,0]"), 0, "in shape of tensor 'a', got 0"},
      {with("[2.0]", "[0,8]"), 8, "in shape of tensor 'a', got 2"},
      {with("[1e400]", "[0,8]"), 8, "it is broken at its byte"},
      {with("[\"2\"]", "[0,8]"), 8, "in shape of tensor 'a', got a text"},
      {with("[[2]]", "[0,8]"), 8, "in shape of tensor 'a', got a list"},
      {with("[{}]", "[0,8]"), 8, "in shape of tensor 'a', got an object"},
      {with("[null]", "[0,8]"), 8, "in shape of tensor 'a', got null"},
      {with("2", "[0,8]"), 8, "a list as 'shape' of 'a', got a number"},
      {with("{}", "[0,8]"), 8, "a list as 'shape' of 'a', got an object"},
      {with("[1,1,1,1,1,1,2]", "[0,8]"), 8, "at most 6 numbers in the shape of tensor 'a'"},
      {with("[4611686018427387904,2]", "[0,0]"), 0, "a shape of tensor 'a' with at most 2^60 bytes"},
      {with("[4611686018427387904,4]", "[0,0]"), 0, "a shape of tensor 'a' with at most 2^60 bytes"},   // would wrap to 0
      {with("[9223372036854775807]", "[0,0]"), 0, "a shape of tensor 'a' with at most 2^60 bytes"},
      {with("[4294967296,4294967296,0]", "[0,0]"), 0, "a shape of tensor 'a' with at most 2^60 bytes"},
      {with("[4294967296,1073741824]", "[0,0]", "\"U8\""), 0, "with at most 2^60 bytes"},
      // types
      {with("[2]", "[0,8]", "\"F31\""), 8, "tensor 'a' of type F32, F16, BF16, F64, I32, I64, U8 or BOOL, got 'F31'"},
      {with("[2]", "[0,8]", "1"), 8, "a text as 'dtype' of 'a', got a number"},
      {with("[2]", "[0,8]", "[\"F32\"]"), 8, "a text as 'dtype' of 'a', got a list"},
      {with("[2]", "[0,8]", "true"), 8, "a text as 'dtype' of 'a', got true or false"},
      {with("[2]", "[0,8]", "\"F64\""), 8, "16 bytes for tensor 'a', F64 (2), got 8"},
      // fields and names
      {tensor(R"("dtype":"F32","shape":[2])"), 8, "dtype, shape and data_offsets of tensor 'a', not all are there"},
      {tensor(""), 0, "dtype, shape and data_offsets of tensor 'a', not all are there"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1])"), 8, "of tensor 'a', got 'strides'"},
      {tensor(R"("dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8])"), 8, "each name once in the header, got 'dtype'"},
      {tensor(R"("dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8])"), 8, "got 'shape' of 'a' twice"},
      {R"({"a":)" + one + R"(,"a":)" + one + "}", 1, "got 'a' twice"},
      {R"({"a":)" + one + R"(,"\u0061":)" + one + "}", 1, "got 'a' twice"},
      {R"({"a":1})", 0, "an object for 'a', got a number"},
      {R"({"a":[]})", 0, "an object for 'a', got a list"},
      {R"({"a":null})", 0, "an object for 'a', got null"},
      // texts
      {R"({"__metadata__":{"k":1}})", 0, "a text as 'k' of '__metadata__', got a number"},
      {R"({"__metadata__":{"k":{}}})", 0, "a text as 'k' of '__metadata__', got an object"},
      {R"({"__metadata__":{"k":["v"]}})", 0, "a text as 'k' of '__metadata__', got a list"},
      {R"({"__metadata__":{"shape":[1]}})", 0, "a text as 'shape' of '__metadata__', got a list"},
      {R"({"__metadata__":{"k":null}})", 0, "a text as 'k' of '__metadata__', got null"},
      {R"({"__metadata__":"v"})", 0, "an object for '__metadata__', got a text"},
      {R"({"__metadata__":{"k":"1","k":"2"}})", 0, "got 'k' of '__metadata__' twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "got '__metadata__' twice"},
      // no JSON, or other JSON
      {"[]", 0, "an object as the header, got a list"},
      {"1", 0, "an object as the header, got a number"},
      {"null", 0, "an object as the header, got null"},
      {"\"{}\"", 0, "an object as the header, got a text"},
      {"", 0, "a header in JSON, it is broken at its byte 1"},
      {"{} {}", 0, "a header in JSON, it is broken"},
      {std::string("{}\0", 3), 0, "it holds a zero byte"},
      {"{\"a\xff\":{}}", 0, "a header in JSON, it is broken"},
      {"{'a':{}}", 0, "a header in JSON, it is broken at its byte 2"},
      {std::string(1 << 20, '['), 0, "an object as the header, got a list"},
      {"{\"a\":" + std::string(1 << 20, '['), 0, "an object for 'a', got a list"},
      {R"({"a":{"shape":)" + std::string(1 << 20, '['), 0, "in shape of tensor 'a', got a list"},
  };
  for (const Case& c : cases) {
    const std::string message = refusal(c.header, c.data);
    CAPTURE(c.header.substr(0, 200));
    CAPTURE(message);
    CHECK(message != "no error");
    CHECK(has(message, c.part));
  }
  // a name from a file cannot write to the terminal, nor fill it
  const std::string message = refusal("{\"\\u001b[2J" + std::string(100000, 'n') + "\":1}", 0);
  CHECK(has(message, "'\\x1b[2Jnnn"));
  CHECK(message.size() < 400);
}

TEST_CASE("safetensors: what is no file of this kind") {
  const test::TempDir folder;
  CHECK(has(refusal(folder / "missing"), "[" + folder / "missing" + "] expected to read it: No such file or directory"));
  CHECK(has(refusal(folder / ""), "[" + folder / "" + "] expected to read it: Is a directory"));
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(has(refusal(pipe), "[" + pipe + "] expected a regular file"));
  std::ofstream(folder / "empty").flush();
  CHECK(has(refusal(folder / "empty"), "[" + folder / "empty" + "] expected a safetensors file, got 0 bytes"));
  std::ofstream(folder / "text") << "To be, or not to be, that is the question";
  CHECK(has(refusal(folder / "text"), "[" + folder / "text" + "] expected a header of at most"));
}

TEST_CASE("safetensors: what cannot be written is named, the old file stays") {
  const test::TempDir folder;
  const std::string path = folder / "a.safetensors";
  const State good = everything();
  write_safetensors(path, good);
  const auto message_with = [&](auto change) {
    State state = good;
    change(state);
    return message_of([&] { write_safetensors(path, state); });
  };
  const std::pair<std::string, const char*> messages[] = {
      {message_with([](State& s) { s.tensors["__metadata__"] = zeros({1}); }), "__metadata__"},
      {message_with([](State& s) { s.texts["__metadata__"] = "x"; }), "__metadata__"},
      {message_with([](State& s) { s.tensors["undefined one"] = Tensor(); }), "tensor 'undefined one', it is undefined"},
      {message_with([](State& s) { s.tensors["a\xff"] = zeros({1}); }), "the name of tensor 'a\uFFFD' in UTF-8"},
      {message_with([](State& s) { s.texts["a\xff"] = "x"; }), "the name of text 'a\uFFFD' in UTF-8"},
      {message_with([](State& s) { s.texts["broken"] = "\xe6\xb1"; }), "the text 'broken' in UTF-8"},
  };
  for (const auto& [message, part] : messages) {
    CHECK(has(message, "[" + path + "] expected "));
    CHECK(has(message, part));
  }

  State large = good;
  large.tensors["large"] = zeros({1 << 16});
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 1 << 12, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = message_of([&] { write_safetensors(path, large); });
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  CHECK(has(message, "[" + path + "] expected to write it: File too large"));
  CHECK(has(message_of([&] { write_safetensors("/dev/full", large); }),
            "[/dev/full] expected to write it: No space left on device"));
  check_same(read_safetensors(path), good);
  CHECK(std::distance(fs::directory_iterator(folder / ""), fs::directory_iterator()) == 1);   // no temporary file
}
