#include "nn/events.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace qd {
namespace fs = std::filesystem;

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
      t[i] = c;
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(byte)) & 255];
  return ~crc;
}

namespace {

// TensorFlow's: a CRC of bytes that hold CRCs themselves would be weak.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>((value >> 8 * i) & 255);
  return bytes;
}

template <class T>
T from_little_endian(std::string_view bytes) {
  T value = 0;
  for (size_t i = 0; i < sizeof value; ++i) value |= static_cast<T>(static_cast<unsigned char>(bytes[i])) << 8 * i;
  return value;
}

constexpr size_t header_bytes = 8 + 4, frame_bytes = header_bytes + 4;

std::string record(std::string_view event) {
  const std::string length = little_endian<uint64_t>(event.size());
  return length + little_endian(masked_crc(length)) + std::string(event) + little_endian(masked_crc(event));
}

// Bytes of the whole records at the front of `file`.
size_t whole_records(std::string_view file) {
  for (size_t done = 0;;) {
    const std::string_view rest = file.substr(done);
    if (rest.size() < frame_bytes) return done;
    if (from_little_endian<uint32_t>(rest.substr(8)) != masked_crc(rest.substr(0, 8))) return done;
    const auto length = from_little_endian<uint64_t>(rest);
    if (length > rest.size() - frame_bytes) return done;
    if (from_little_endian<uint32_t>(rest.substr(header_bytes + length)) != masked_crc(rest.substr(header_bytes, length))) return done;
    done += frame_bytes + length;
  }
}

// The wire format: a field is a varint of its number and kind (0 varint, 1 eight bytes, 2 bytes after their count, 5 four bytes), then its
// value.
class Message {
 public:
  Message& integer(int field, int64_t value) { return key(field, 0).varint(static_cast<uint64_t>(value)); }
  Message& real64(int field, double value) { return key(field, 1).raw(little_endian(std::bit_cast<uint64_t>(value))); }
  Message& real32(int field, double value) { return key(field, 5).raw(little_endian(std::bit_cast<uint32_t>(static_cast<float>(value)))); }
  Message& bytes(int field, std::string_view value) { return key(field, 2).varint(value.size()).raw(value); }
  Message& message(int field, const Message& value) { return bytes(field, value.out_); }
  const std::string& str() const { return out_; }

 private:
  Message& key(int field, int kind) { return varint(static_cast<uint64_t>(field << 3 | kind)); }
  Message& varint(uint64_t value) {
    for (; value > 127; value >>= 7) out_ += static_cast<char>((value & 127) | 128);
    out_ += static_cast<char>(value);
    return *this;
  }
  Message& raw(std::string_view bytes) {
    out_ += bytes;
    return *this;
  }
  std::string out_;
};

double seconds_since_1970() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// Event: wall_time = 1, step = 2, then one of file_version = 3 and summary = 5
Message event_now() { return Message().real64(1, seconds_since_1970()); }

// The newest file of ours in a run's folder, by the time in its name.
std::string file_in(const std::string& folder) {
  std::string newest;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("events.out.tfevents.") && name.find(".qiudao.") != std::string::npos) newest = std::max(newest, name);
  }
  if (newest.empty()) newest = str("events.out.tfevents.", static_cast<int64_t>(seconds_since_1970()), ".qiudao.", getpid());
  return folder + "/" + newest;
}

}  // namespace

EventsFile::EventsFile(const std::string& folder, int64_t length) {
  const std::string path = file_in(folder);
  std::error_code missing;
  size_t whole = 0;
  if (length > 0 && fs::exists(path, missing)) whole = whole_records(std::string_view(read_file(path)).substr(0, static_cast<size_t>(length)));
  file_ = AppendFile(path, static_cast<int64_t>(whole));
  if (whole == 0) file_.append(record(event_now().bytes(3, "brain.Event:2").str()));
}

void EventsFile::scalars(int64_t step, const std::string& group, const Values& values) {
  Message summary;   // Summary: value = 1; Value: tag = 1, simple_value = 2
  for (const auto& [name, value] : values) {
    const std::string tag = group + "/" + (name.starts_with("val_") ? name.substr(4) : name);
    summary.message(1, Message().bytes(1, tag).real32(2, value));
  }
  file_.append(record(event_now().integer(2, step).message(5, summary).str()));
}

void EventsFile::text(int64_t step, const std::string& tag, std::string_view text) {
  std::string shown = "    ";   // Markdown: lines that begin with four blanks stay as they are
  for (const char c : printable(text)) shown += c == '\n' ? "\n    " : std::string(1, c);
  constexpr int dt_string = 7, tensor_data = 2;
  Message tensor, metadata;
  tensor.integer(1, dt_string).message(2, {}).bytes(8, shown);                         // TensorProto: dtype, tensor_shape (a scalar), string_val
  metadata.message(1, Message().bytes(1, "text")).integer(4, tensor_data);   // SummaryMetadata: plugin_data, data_class
  const Message value = Message().bytes(1, tag).message(8, tensor).message(9, metadata);
  file_.append(record(event_now().integer(2, step).message(5, Message().message(1, value)).str()));
}

}  // namespace qd
