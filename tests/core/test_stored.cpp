// Files that are looked at before they are read, the types that they may hold, JSON from strangers, the picture of a graph.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/graph.h"
#include "core/json_file.h"
#include "core/number_types.h"
#include "core/ops.h"
#include "core/safetensors.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using test::message_of;

namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

template <class T>
double as_f64(const char* type, T bits) {
  double out;
  number_type(type)->to_f64(&bits, 1, &out);
  return out;
}

}  // namespace

TEST_CASE("stored: numbers of every type as f64") {
  const auto f32_of = [](const char* type, uint16_t bits) {
    float out;
    CHECK(number_type(type)->convert(&bits, 1, &out) == 1);
    return out;
  };
  for (uint32_t bits = 0; bits < 65536; ++bits) {   // as read() widens them, which test_safetensors.cpp compares with the definition
    for (const char* type : {"F16", "BF16"}) {
      const double wide = as_f64(type, static_cast<uint16_t>(bits)), other = f32_of(type, static_cast<uint16_t>(bits));
      if (!(wide == other || (std::isnan(wide) && std::isnan(other)))) FAIL(type << " " << bits);
    }
  }
  CHECK(as_f64("F32", 1.5f) == 1.5);
  CHECK(as_f64("F64", 1e300) == 1e300);
  CHECK(as_f64("I8", int8_t{-128}) == -128);
  CHECK(as_f64("U8", uint8_t{255}) == 255);
  CHECK(as_f64("I16", int16_t{-32768}) == -32768);
  CHECK(as_f64("U16", uint16_t{65535}) == 65535);
  CHECK(as_f64("I32", int32_t{-5}) == -5);
  CHECK(as_f64("U32", uint32_t{4294967295}) == 4294967295.0);
  CHECK(as_f64("I64", int64_t{-1} << 40) == -1099511627776.0);
  CHECK(as_f64("U64", uint64_t{1} << 63) == 9223372036854775808.0);
  // FP8: the largest, the least normal and subnormal, and the special numbers of the paper's table 1
  const auto e4m3 = [](uint8_t bits) { return as_f64("F8_E4M3", bits); };
  const auto e5m2 = [](uint8_t bits) { return as_f64("F8_E5M2", bits); };
  CHECK(e4m3(0b0'1111'110) == 448);
  CHECK(e4m3(0b1'0001'000) == -0x1p-6);
  CHECK(e4m3(0b0'0000'001) == 0x1p-9);
  CHECK(e4m3(0b0'0000'000) == 0);
  CHECK(std::isnan(e4m3(0b0'1111'111)));
  CHECK(std::isnan(e4m3(0b1'1111'111)));
  CHECK(e5m2(0b0'11110'11) == 57344);
  CHECK(e5m2(0b0'00001'00) == 0x1p-14);
  CHECK(e5m2(0b1'00000'01) == -0x1p-16);
  CHECK(e5m2(0b1'11111'00) == -INFINITY);
  CHECK(std::isnan(e5m2(0b0'11111'01)));
  CHECK(number_type("F31") == nullptr);
}

TEST_CASE("stored: a file with types that nothing is computed with") {
  const test::TempDir folder;
  const std::string path = folder / "a.safetensors";
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[3],"data_offsets":[8,11]},)"
                             R"("c":{"dtype":"F4","shape":[4],"data_offsets":[11,13]}})";
  const uint64_t length = header.size();
  const std::string data("\0\0\x80\x3f\0\0\0\x40\1\2\xff\x12\x34", 13);
  write_file(path, std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
  const StoredState stored = open_safetensors(path);
  REQUIRE(stored.tensors.size() == 3);
  const StoredTensor a = stored.tensors.at("a"), b = stored.tensors.at("b"), c = stored.tensors.at("c");
  CHECK(a.read().data()[1] == 2);
  CHECK(b.type == "I8");
  CHECK(c.number == nullptr);
  CHECK(c.bytes == 2);
  char last[2];
  c.read_bytes(0, last);
  CHECK(std::memcmp(last, "\x12\x34", 2) == 0);
  for (const StoredTensor* t : {&b, &c}) {
    CHECK(has(message_of([&] { t->read(); }), str("[", path, "] expected tensor '", t->name, "' of type F32, F16")));
    CHECK(has(message_of([&] { t->dtype(); }), "'" + t->type + "'"));
  }
  CHECK(has(message_of([&] { read_safetensors(path); }), "'I8'"));
  write_file(path, std::string(reinterpret_cast<const char*>(&length), 8) + header + data.substr(1));
  CHECK(has(message_of([&] { open_safetensors(path); }), path));
}

TEST_CASE("json file: read strictly") {
  const test::TempDir folder;
  const std::string path = folder / "a.json";
  const auto refusal = [&](const std::string& text, size_t longest = 1000) {
    write_file(path, text);
    return message_of([&] { read_json(path, longest); });
  };
  CHECK(refusal(R"({"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]})") == "no error");
  CHECK(refusal("3") == "no error");
  CHECK(has(refusal(R"({"a": 1, "b": 2, "a": 1})"), "each key once, got 'a' twice"));
  CHECK(has(refusal(R"({"b": [{"a": 1}, {"x": {}, "\u0061": 2, "a": 2}]})"), "got 'a' twice"));
  CHECK(has(refusal("12345", 4), "at most 4 bytes, got 5"));
  for (const char* text : {"", "{", "{\"a\": nan}", "{\"a\": 1e999}", "{\"\xff\": 1}", "{} {}", "\xff\xfe"}) {
    CAPTURE(text);
    CHECK(has(refusal(text), "[" + path + "] expected JSON"));
  }
  CHECK(has(refusal(std::string(1 << 20, '['), 1 << 21), "expected JSON"));
  std::string deep = std::string(1 << 18, '[') + std::string(1 << 18, ']');
  CHECK(refusal(deep, 1 << 21) == "no error");
  CHECK(has(message_of([&] { read_json(folder / "", 10); }), "Is a directory"));
}

TEST_CASE("graph: operations, leaves and their order") {
  Tensor w = full({2, 3}, 1), b = full({3}, 1), unused = full({3}, 1);
  for (Tensor* t : {&w, &b, &unused}) t->require_gradient();
  const auto make = [&] {
    const Tensor x = full({4, 2}, 1);
    const Tensor h = relu(matmul(x, w) + b);
    return mse(h + h, full({4, 3}, 0));   // one node used twice is one edge
  };
  const std::string dot = graph_of(make(), {{"w", w}, {"b \"1\"", b}, {"unused", unused}});
  CHECK(dot == graph_of(make(), {{"w", w}, {"b \"1\"", b}, {"unused", unused}}));   // no addresses, no running numbers
  CHECK(dot.starts_with("digraph {\n"));
  CHECK(dot.ends_with("}\n"));
  CHECK(count(dot, "[label=\"w\\n(2, 3)\"") == 1);
  CHECK(count(dot, "[label=\"b \\\"1\\\"\\n(3)\"") == 1);
  CHECK(count(dot, "matmul\\n(4, 3)") == 1);
  CHECK(count(dot, "unused") == 0);
  CHECK(count(dot, "ellipse") == 2);
  CHECK(count(dot, " -> ") == 6);   // w and matmul, b and add, relu, add, mse
  CHECK(count(dot, "penwidth") == 1);
  CHECK(has(message_of([&] { graph_of(full({}, 1), {}); }), "depends on a parameter"));
  CHECK(count(graph_of(w, {{"w", w}}), "label") == 1);
}

TEST_CASE("graph: of a deep one the middle is one node") {
  Tensor x = full({1}, 1), shared = full({1}, 1);
  x.require_gradient(), shared.require_gradient();
  Tensor y = x;
  for (int i = 0; i < 100'000; ++i) y = y + shared;
  const std::string dot = graph_of(y, {{"x", x}, {"shared", shared}}, 10);
  CHECK(count(dot, "label=\"add") == 10);
  CHECK(has(dot, "... 99990 more operations"));
  CHECK(count(dot, "-> hidden") == 1);
  CHECK(count(dot, "hidden ->") == 1);
  CHECK(count(dot, " -> ") == 20 + 1);   // two for each operation, one of the first after the gap comes from it, and one into it
  CHECK(count(graph_of(y.row_range(0, 1), {}, 200'000), "label") == 100'003);
}
