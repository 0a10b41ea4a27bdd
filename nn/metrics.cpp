#include "nn/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iomanip>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace qd {

const double* find(const Values& values, const std::string& name) {
  const auto found = std::find_if(values.begin(), values.end(), [&](const auto& value) { return value.first == name; });
  return found == values.end() ? nullptr : &found->second;
}

void put(State& to, const std::string& prefix, const Values& values) {
  for (const auto& [name, value] : values) to.put(prefix + name, value);
}

Values values_in(const State& from, const std::string& prefix) {
  Values out;
  for (auto at = from.texts.lower_bound(prefix); at != from.texts.end() && at->first.starts_with(prefix); ++at)
    out.emplace_back(at->first.substr(prefix.size()), from.real(at->first));
  return out;
}

std::string describe(const Values& values) {
  std::ostringstream out;
  for (const auto& [name, value] : values) out << (out.tellp() > 0 ? ", " : "") << name << " " << std::setprecision(5) << value;
  return out.str();
}

MetricsFile::MetricsFile(const std::string& path, int64_t length) : path_(path) {
  descriptor_ = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  QD_CHECK(descriptor_ >= 0, path, str("expected to open it for writing: ", std::strerror(errno)));
  const off_t end = lseek(descriptor_, 0, SEEK_END);
  length_ = std::clamp<int64_t>(length, 0, std::max<off_t>(end, 0));
  if (ftruncate(descriptor_, length_) != 0) {
    const std::string reason = std::strerror(errno);
    close(descriptor_);
    fail(path, str("expected to cut it to ", length_, " bytes: ", reason));
  }
}

MetricsFile::~MetricsFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

MetricsFile& MetricsFile::operator=(MetricsFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(length_, other.length_);
  return *this;
}

void MetricsFile::append(int64_t step, const Values& values) {
  if (descriptor_ < 0) return;
  nlohmann::ordered_json line;
  line["step"] = step;
  for (const auto& [name, value] : values) line[name] = value;   // a value that is not finite becomes null
  const std::string text = line.dump() + "\n";
  const ssize_t written = pwrite(descriptor_, text.data(), text.size(), length_);
  if (written != static_cast<ssize_t>(text.size())) {
    const std::string reason = written < 0 ? std::strerror(errno) : "the disk is full";
    [[maybe_unused]] const int cut = ftruncate(descriptor_, length_);   // a later line must not continue a torn one
    fail(path_, str("expected to append a line: ", reason));
  }
  length_ += written;
}

}  // namespace qd
