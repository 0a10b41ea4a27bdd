// Reads TensorBoard's event files as their format is published, independently of nn/events.cpp.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"

namespace qd::test {

// CRC-32C bit by bit: reflected input and output, polynomial 0x1EDC6F41, initial value and final xor all ones.
inline uint32_t slow_crc32c(std::string_view bytes) {
  uint32_t remainder = 0xFFFFFFFF;   // most significant coefficient first
  for (const char byte : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      const uint32_t top = (remainder >> 31) ^ (static_cast<uint32_t>(byte) >> bit & 1);
      remainder = (remainder << 1) ^ (top ? 0x1EDC6F41 : 0);
    }
  uint32_t reflected = 0;
  for (int bit = 0; bit < 32; ++bit) reflected |= (remainder >> bit & 1) << (31 - bit);
  return reflected ^ 0xFFFFFFFF;
}

inline uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8; }

// The fields of one message, by number: integers as they are, the rest as bytes.
struct Fields {
  std::multimap<int, uint64_t> integers;
  std::multimap<int, std::string> bytes;

  explicit Fields(std::string_view in) {
    size_t at = 0;
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0;; shift += 7) {
        REQUIRE(at < in.size());
        REQUIRE(shift < 64);
        const auto byte = static_cast<unsigned char>(in[at++]);
        value |= static_cast<uint64_t>(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
      }
    };
    while (at < in.size()) {
      const uint64_t key = varint();
      const int field = static_cast<int>(key >> 3), kind = static_cast<int>(key & 7);
      REQUIRE(field > 0);
      if (kind == 0) {
        integers.emplace(field, varint());
        continue;
      }
      REQUIRE((kind == 1 || kind == 2 || kind == 5));
      const size_t size = kind == 1 ? 8 : kind == 5 ? 4 : varint();
      REQUIRE(size <= in.size() - at);
      bytes.emplace(field, in.substr(at, size));
      at += size;
    }
  }

  template <class T>
  T number(int field) const {   // of a machine that is little-endian, as the tests' are
    T value;
    const std::string& from = one(field);
    REQUIRE(from.size() == sizeof value);
    std::memcpy(&value, from.data(), sizeof value);
    return value;
  }
  const std::string& one(int field) const {
    REQUIRE(bytes.count(field) == 1);
    return bytes.find(field)->second;
  }
};

// One value of one event.
struct EventValue {
  double wall_time;
  int64_t step;
  std::string tag;
  float number = 0;
  std::string text = {};   // of the text plugin
};

// All values of a file; requires it to be what TensorBoard reads, to the last byte.
inline std::vector<EventValue> read_events(const std::string& path) {
  const std::string file = read_file(path);
  std::vector<EventValue> all;
  for (size_t at = 0; at < file.size();) {
    uint64_t length;
    uint32_t length_crc, crc;
    REQUIRE(file.size() - at >= 16);
    std::memcpy(&length, &file[at], 8);
    std::memcpy(&length_crc, &file[at + 8], 4);
    REQUIRE(length_crc == masked(slow_crc32c(std::string_view(file).substr(at, 8))));
    REQUIRE(length <= file.size() - at - 16);
    const std::string_view bytes = std::string_view(file).substr(at + 12, length);
    std::memcpy(&crc, &file[at + 12 + length], 4);
    REQUIRE(crc == masked(slow_crc32c(bytes)));
    const Fields event(bytes);
    const auto wall_time = event.number<double>(1);
    CHECK(wall_time > 1.6e9);
    if (at == 0) CHECK(event.one(3) == "brain.Event:2");
    else CHECK(event.bytes.count(3) == 0);
    at += 16 + length;
    if (event.bytes.count(5) == 0) continue;
    REQUIRE(event.integers.count(2) == 1);
    const auto step = static_cast<int64_t>(event.integers.find(2)->second);
    const Fields summary(event.one(5));
    CHECK(summary.bytes.size() == summary.bytes.count(1));
    for (const auto& field : summary.bytes) {
      const Fields value(field.second);
      EventValue read{.wall_time = wall_time, .step = step, .tag = value.one(1)};
      if (value.bytes.count(2)) {
        read.number = value.number<float>(2);
      } else {
        const Fields tensor(value.one(8)), metadata(value.one(9)), plugin(metadata.one(1));
        CHECK(tensor.integers.find(1)->second == 7);   // DT_STRING
        CHECK(tensor.one(2).empty());                  // a scalar
        CHECK(plugin.one(1) == "text");
        CHECK(metadata.integers.find(4)->second == 2);   // DATA_CLASS_TENSOR
        read.text = tensor.one(8);
      }
      all.push_back(read);
    }
  }
  return all;
}

// The one event file of a run.
inline std::string events_file(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) found.push_back(entry.path().string());
  REQUIRE(found.size() == 1);
  return found.front();
}

}  // namespace qd::test
