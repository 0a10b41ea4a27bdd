#include "core/number_types.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace qd {
namespace {

static_assert(std::endian::native == std::endian::little, "the numbers in a file are little-endian");

uint32_t f16_to_f32(uint16_t half) {   // bits to bits
  const uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 0) return sign | std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-24f);   // no denormal in f32
  if (exponent == 31) return sign | 0x7F800000u | fraction << 13;
  return sign | (exponent + 127 - 15) << 23 | fraction << 13;
}
uint32_t bf16_to_f32(uint16_t bits) { return static_cast<uint32_t>(bits) << 16; }

// Micikevicius et al. 2022, "FP8 Formats for Deep Learning": no infinities, NaN is all ones
double e4m3_to_f64(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  if ((bits & 127) == 127) return NAN;
  const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return bits & 128 ? -size : size;
}
double e5m2_to_f64(uint8_t bits) { return std::bit_cast<float>(f16_to_f32(static_cast<uint16_t>(bits << 8))); }   // half of an F16

// `count` numbers, at any address; returns how many of them fit before the first that does not.
template <class From, class To, class F>
int64_t each(const void* from, int64_t count, void* to, F f) {
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, static_cast<const char*>(from) + i * static_cast<int64_t>(sizeof value), sizeof value);
    To out;
    if (!f(value, out)) return i;
    std::memcpy(static_cast<char*>(to) + i * static_cast<int64_t>(sizeof out), &out, sizeof out);
  }
  return count;
}

int64_t widen_f16(const void* from, int64_t count, void* to) {
  return each<uint16_t, uint32_t>(from, count, to, [](uint16_t x, uint32_t& y) { return y = f16_to_f32(x), true; });
}
int64_t widen_bf16(const void* from, int64_t count, void* to) {
  return each<uint16_t, uint32_t>(from, count, to, [](uint16_t x, uint32_t& y) { return y = bf16_to_f32(x), true; });
}
int64_t narrow_f64(const void* from, int64_t count, void* to) {
  return each<double, float>(from, count, to, [](double x, float& y) {
    if (std::isfinite(x) && std::abs(x) > std::numeric_limits<float>::max()) return false;
    y = static_cast<float>(x);
    return true;
  });
}
int64_t narrow_i64(const void* from, int64_t count, void* to) {
  return each<int64_t, int32_t>(from, count, to, [](int64_t x, int32_t& y) { return y = static_cast<int32_t>(x), y == x; });
}

template <class From, auto f = [](From x) { return static_cast<double>(x); }>
void to_f64(const void* from, int64_t count, double* to) {
  each<From, double>(from, count, to, [](From x, double& y) { return y = f(x), true; });
}
double f16_to_f64(uint16_t x) { return std::bit_cast<float>(f16_to_f32(x)); }
double bf16_to_f64(uint16_t x) { return std::bit_cast<float>(bf16_to_f32(x)); }

constexpr auto none = std::nullopt;
constexpr NumberType types[] = {
    {"F32", 4, to_f64<float>, DType::f32},
    {"I32", 4, to_f64<int32_t>, DType::i32},
    {"U8", 1, to_f64<uint8_t>, DType::u8},
    {"BOOL", 1, to_f64<uint8_t>, DType::u8},
    {"F16", 2, to_f64<uint16_t, f16_to_f64>, DType::f32, widen_f16},
    {"BF16", 2, to_f64<uint16_t, bf16_to_f64>, DType::f32, widen_bf16},
    {"F64", 8, to_f64<double>, DType::f32, narrow_f64},
    {"I64", 8, to_f64<int64_t>, DType::i32, narrow_i64},
    {"I8", 1, to_f64<int8_t>, none},
    {"I16", 2, to_f64<int16_t>, none},
    {"U16", 2, to_f64<uint16_t>, none},
    {"U32", 4, to_f64<uint32_t>, none},
    {"U64", 8, to_f64<uint64_t>, none},
    {"F8_E4M3", 1, to_f64<uint8_t, e4m3_to_f64>, none},
    {"F8_E5M2", 1, to_f64<uint8_t, e5m2_to_f64>, none},
};

}  // namespace

const NumberType* number_type(const std::string& name) {
  for (const NumberType& type : types)
    if (name == type.name) return &type;
  return nullptr;
}

}  // namespace qd
