#include "core/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/number_types.h"
#include "core/utf8.h"

namespace qd {
namespace {

constexpr const char* metadata = "__metadata__";
constexpr uint64_t longest_header = 100'000'000;   // bytes: the limit of the reference implementation
constexpr const char* cut_hint = "is the file complete? compare its size with the original's";
constexpr const char* damage_hint = "the file is damaged, or not a safetensors file";

// A name from a file, short and harmless enough for a message.
std::string quote(const std::string& name) {
  constexpr size_t most = 100;
  return "'" + printable(name.substr(0, utf8_boundary(name, most))) + (name.size() > most ? "...'" : "'");
}

// --- the header

struct Entry {
  std::string dtype;
  std::vector<int64_t> shape, offsets;   // offsets: begin and end, from the end of the header on
};

// Follows the JSON as it is read, so that nothing unexpected is ever stored: {"__metadata__": {"text": "text"},
// "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}, no key twice.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& path) : path_(path) {}
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> texts;

  bool start_object(size_t) override {
    if (depth_ >= 2) unexpected("an object");
    fields_.clear();
    ++depth_;
    return true;
  }
  bool key(std::string& key) override {
    const bool known = depth_ == 1 || name_ == metadata || key == "dtype" || key == "shape" || key == "data_offsets";
    QD_CHECK(known, path_, str("expected dtype, shape and data_offsets of tensor ", quote(name_), ", got ", quote(key)),
             damage_hint);
    QD_CHECK((depth_ == 1 ? names_ : fields_).insert(key).second, path_,
             str("expected each name once in the header, got ", quote(key), depth_ == 1 ? "" : " of " + quote(name_), " twice"),
             damage_hint);
    (depth_ == 1 ? name_ : field_) = key;
    return true;
  }
  bool end_object() override {
    QD_CHECK(--depth_ == 0 || name_ == metadata || fields_.size() == 3, path_,
             str("expected dtype, shape and data_offsets of tensor ", quote(name_), ", not all are there"), damage_hint);
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || name_ == metadata || field_ == "dtype") unexpected("a list");
    ++depth_;
    return true;
  }
  bool end_array() override {
    QD_CHECK(field_ == "shape" || numbers().size() == 2, path_,
             str("expected 2 data_offsets of tensor ", quote(name_), ", got ", numbers().size()), damage_hint);
    --depth_;
    return true;
  }
  bool number_unsigned(uint64_t value) override {
    if (depth_ != 3) unexpected("a number");
    if (value > INT64_MAX) unexpected(str(value));
    const size_t most = field_ == "shape" ? Shape::max_rank : 2;
    QD_CHECK(numbers().size() < most, path_,
             str("expected at most ", most, " numbers in the ", field_, " of tensor ", quote(name_), ", got more"));
    numbers().push_back(static_cast<int64_t>(value));
    return true;
  }
  bool string(std::string& text) override {
    if (depth_ != 2 || (name_ != metadata && field_ != "dtype")) unexpected("a text");
    (name_ == metadata ? texts[field_] : entries[name_].dtype) = std::move(text);
    return true;
  }
  bool number_integer(int64_t value) override { unexpected(str(value)); }
  bool number_float(double value, const std::string&) override { unexpected(str(value)); }
  bool boolean(bool) override { unexpected("true or false"); }
  bool null() override { unexpected("null"); }
  bool binary(nlohmann::json::binary_t&) override { unexpected("bytes"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail(path_, str("expected a header in JSON, it is broken at its byte ", position), damage_hint);
  }

 private:
  std::vector<int64_t>& numbers() { return field_ == "shape" ? entries[name_].shape : entries[name_].offsets; }

  [[noreturn]] void unexpected(const std::string& given) const {
    const bool text = name_ == metadata || field_ == "dtype";
    const std::string what = depth_ == 0   ? "an object as the header"
                             : depth_ == 1 ? "an object for " + quote(name_)
                             : depth_ == 2 ? str(text ? "a text" : "a list", " as ", quote(field_), " of ", quote(name_))
                                           : str("whole numbers from 0 on in ", field_, " of tensor ", quote(name_));
    fail(path_, str("expected ", what, ", got ", given), damage_hint);
  }

  const std::string& path_;
  int depth_ = 0;                         // 1 between tensors, 2 inside one, 3 in its lists
  std::string name_, field_;              // the keys that lead here
  std::set<std::string> names_, fields_;  // seen so far
};

// Of the tensor that numbers of a type become.
DType dtype_read(const std::string& path, const std::string& name, const std::string& type) {
  const NumberType* number = number_type(type);
  QD_CHECK(number && number->dtype, path,
           str("expected tensor ", quote(name), " of type F32, F16, BF16, F64, I32, I64, U8 or BOOL, got ", quote(type)),
           "convert it to one of these first");
  return *number->dtype;
}

// The bytes that type and shape ask for.
uint64_t bytes_needed(const InputFile& file, const std::string& name, const Entry& entry, int64_t bytes) {
  for (const int64_t dim : entry.shape) {
    QD_CHECK(!__builtin_mul_overflow(bytes, dim, &bytes) && bytes <= int64_t{1} << 60, file.path(),
             str("expected a shape of tensor ", quote(name), " with at most 2^60 bytes, got more"), damage_hint);
  }
  return static_cast<uint64_t>(bytes);
}

using File = std::shared_ptr<const InputFile>;

StoredTensor stored(const File& file, const std::string& name, const Entry& entry, uint64_t data_begin) {
  const NumberType* number = number_type(entry.dtype);
  const auto begin = static_cast<uint64_t>(entry.offsets[0]), end = static_cast<uint64_t>(entry.offsets[1]);
  const uint64_t needed = bytes_needed(*file, name, entry, number ? number->bytes : 1), data_size = file->size() - data_begin;
  QD_CHECK(begin <= end && end <= data_size, file->path(),
           str("expected tensor ", quote(name), " within ", data_size, " bytes of data, got bytes ", begin, " to ", end),
           cut_hint);
  const Shape shape(entry.shape);
  QD_CHECK(!number || end - begin == needed, file->path(),
           str("expected ", needed, " bytes for tensor ", quote(name), ", ", entry.dtype, " ", shape.str(), ", got ", end - begin),
           damage_hint);
  return {name, entry.dtype, number, shape, end - begin, data_begin + begin, file};
}

// The format allows neither holes nor overlaps nor anything behind the last tensor.
void check_cover(const InputFile& file, const std::map<std::string, Entry>& entries, uint64_t data_begin) {
  std::vector<std::pair<const std::string*, const std::vector<int64_t>*>> order;
  for (const auto& [name, entry] : entries) order.emplace_back(&name, &entry.offsets);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return *a.second < *b.second; });
  int64_t covered = 0;
  for (const auto& [name, offsets] : order) {
    QD_CHECK(offsets->front() == covered, file.path(),
             str("expected tensor ", quote(*name), " to begin where the one before ends, at byte ", covered, ", got byte ",
                 offsets->front(), offsets->front() < covered ? ": they overlap" : ": there is a hole"),
             damage_hint);
    covered = offsets->back();
  }
  const uint64_t data_size = file.size() - data_begin;
  QD_CHECK(static_cast<uint64_t>(covered) == data_size, file.path(),
           str("expected ", covered, " bytes of data for ", entries.size(), " tensors, got ", data_size), damage_hint);
}

// computable: every type must be one that tensors can have.
StoredState open_file(const std::string& path, bool computable) {
  const auto file = std::make_shared<const InputFile>(path);
  uint64_t length = 0;
  QD_CHECK(file->size() >= sizeof length, path, str("expected a safetensors file, got ", file->size(), " bytes"), cut_hint);
  file->read(&length, sizeof length, 0);
  const uint64_t room = file->size() - sizeof length;
  QD_CHECK(length <= longest_header, path,
           str("expected a header of at most ", longest_header, " bytes, got a length of ", length), damage_hint);
  QD_CHECK(length <= room, path, str("expected a header of ", length, " bytes, the file has ", room, " more"), cut_hint);
  std::string json(length, '\0');
  file->read(json.data(), length, sizeof length);
  QD_CHECK(json.find('\0') == json.npos, path, "expected a header in JSON, it holds a zero byte", damage_hint);
  HeaderReader reader(path);
  nlohmann::json::sax_parse(json, &reader);

  const uint64_t data_begin = sizeof length + length;
  StoredState state;
  for (const auto& [name, entry] : reader.entries) {
    if (computable) dtype_read(path, name, entry.dtype);
    state.tensors.emplace(name, stored(file, name, entry, data_begin));
  }
  check_cover(*file, reader.entries, data_begin);
  state.texts = std::move(reader.texts);
  return state;
}

// --- writing

std::string json_text(const std::string& path, const std::string& text, const std::string& what) {
  QD_CHECK(count_invalid_utf8(text) == 0, path, str("expected ", what, " in UTF-8, it has broken bytes"));
  return nlohmann::json(text).dump();
}

using Named = std::pair<std::string, const Tensor*>;

std::string header_for(const std::string& path, const State& state, const std::vector<Named>& order) {
  std::string header = "{", comma;
  for (const auto& [name, text] : state.texts) {
    header += comma.empty() ? str('"', metadata, "\":{") : comma;
    header += json_text(path, name, "the name of text " + quote(name)) + ":" + json_text(path, text, "the text " + quote(name));
    comma = ",";
  }
  if (!state.texts.empty()) header += "}";
  int64_t offset = 0;
  for (const auto& [name, tensor] : order) {
    const int64_t end = offset + tensor->size() * bytes_of(tensor->dtype());
    header += comma + json_text(path, name, "the name of tensor " + quote(name));
    header += str(":{\"dtype\":\"", name_of(tensor->dtype()), "\",\"shape\":[");
    for (int i = 0; i < tensor->rank(); ++i) header += str(i ? "," : "", tensor->dim(i));
    header += str("],\"data_offsets\":[", offset, ",", end, "]}");
    offset = end;
    comma = ",";
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');   // the data begins at a multiple of 8
  QD_CHECK(header.size() <= longest_header, path,
           str("expected a header of at most ", longest_header, " bytes, got ", header.size()), "fewer tensors, shorter texts");
  return header;
}

}  // namespace

DType StoredTensor::dtype() const { return dtype_read(file->path(), name, type); }

Tensor StoredTensor::read() const {
  constexpr int64_t piece = 1 << 16;   // numbers converted at once
  Tensor out = empty(shape, dtype());
  auto* to = static_cast<char*>(out.storage()->data);
  if (!number->convert) {
    file->read(to, bytes, offset);
    return out;
  }
  std::vector<char> from(static_cast<size_t>(std::min(piece, out.size()) * number->bytes));
  for (int64_t begin = 0; begin < out.size(); begin += piece) {
    const int64_t count = std::min(piece, out.size() - begin);
    read_bytes(static_cast<uint64_t>(begin * number->bytes), {from.data(), static_cast<size_t>(count * number->bytes)});
    const int64_t fit = number->convert(from.data(), count, to + begin * bytes_of(out.dtype()));
    QD_CHECK(fit == count, file->path(),
             str("expected the ", type, " numbers of tensor ", quote(name), " to fit ", name_of(out.dtype()), ", number ",
                 begin + fit, " does not"));
  }
  return out;
}

void StoredTensor::read_bytes(uint64_t first, std::span<char> to) const { file->read(to.data(), to.size(), offset + first); }

StoredState open_safetensors_file(const std::string& path) { return open_file(path, false); }

State read_safetensors(const std::string& path) {
  StoredState stored = open_file(path, true);
  State state;
  state.texts = std::move(stored.texts);
  for (const auto& [name, tensor] : stored.tensors) state.tensors.emplace(name, tensor.read());
  return state;
}

State read_safetensors_texts(const std::string& path) {
  State state;
  state.texts = open_file(path, true).texts;
  return state;
}

void write_safetensors(const std::string& path, const State& state) {
  QD_CHECK(!state.texts.contains(metadata) && !state.tensors.contains(metadata), path,
           str("expected other names than ", metadata, ", which the format keeps for itself"));
  std::vector<Named> order;   // by name, single bytes last, so that each number lies at a multiple of its size
  for (const auto& [name, tensor] : state.tensors) {
    QD_CHECK(tensor.defined(), path, "expected numbers in tensor " + quote(name) + ", it is undefined");
    order.emplace_back(name, &tensor);
  }
  std::stable_partition(order.begin(), order.end(), [](const auto& item) { return item.second->dtype() != DType::u8; });

  const std::string header = header_for(path, state, order);
  const uint64_t length = header.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const auto& [name, tensor] : order) {
    const int64_t bytes = bytes_of(tensor->dtype());
    const auto* begin = static_cast<const char*>(tensor->storage()->data) + tensor->offset() * bytes;   // views start further on
    file.write(begin, static_cast<size_t>(tensor->size() * bytes));
  }
  file.commit();
}

}  // namespace qd
