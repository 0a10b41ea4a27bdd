#include "core/log.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/utf8.h"

namespace qd {

// Standard error, the log files and the progress line between them. Its functions expect the lock to be held.
struct Output {
  std::mutex mutex;
  std::vector<LogFile*> files;
  const Progress* owner = nullptr;   // of the line that stands on the terminal
  std::string shown;                 // that line; empty: none

  static bool is_terminal() {
    const char* kind = std::getenv("TERM");
    return isatty(STDERR_FILENO) && !(kind && std::string_view(kind) == "dumb");
  }

  static bool write(int descriptor, std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(descriptor, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return false;
      text.remove_prefix(static_cast<size_t>(written));
    }
    return true;
  }

  // Above the progress line. Nobody can be told when standard error itself is gone.
  void to_screen(const std::string& lines) const { write(STDERR_FILENO, shown.empty() ? lines : "\r\x1b[K" + lines + shown); }

  void to_files(const std::string& lines) {
    for (LogFile* file : files) {
      if (write(file->descriptor_, lines) || file->failed_) continue;
      const int error = errno;
      file->failed_ = true;
      const std::string reason = str("expected to append a line: ", std::strerror(error), "; lines are lost");
      to_screen(printable(str("warning: [", file->path_, "] ", reason, "\n")));
    }
  }

  void line(const std::string& text) {
    const std::string lines = printable(text) + "\n";
    to_screen(lines);
    to_files(lines);
  }

  void show(const Progress* progress, std::string text) {
    if (text == shown) return;
    write(STDERR_FILENO, "\r\x1b[K" + text);
    shown = std::move(text);
    owner = progress;
  }
};

namespace {

// Never destroyed: a thread may log while the process ends.
Output& output() {
  static auto* all = new Output;
  return *all;
}

// As many characters as fit into the terminal's width. Those from Hangul on count as two columns wide, as most of them are.
std::string fit(const std::string& text) {
  winsize window = {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
  const int columns = (known ? window.ws_col : 80) - 1;
  size_t end = 0;
  for (int used = 0; end < text.size();) {
    const Utf8Char c = decode_utf8(std::string_view(text).substr(end));
    used += c.code < 0x1100 ? 1 : 2;
    if (used > columns) break;
    end += static_cast<size_t>(c.length);
  }
  return text.substr(0, end);
}

std::string clock_time(double seconds) {
  const auto s = static_cast<long long>(seconds);
  char text[48];
  if (s < 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  }
  return text;
}

}  // namespace

void log(const std::string& line) {
  const std::lock_guard lock(output().mutex);
  output().line(line);
}

void warn(const std::string& line) { log("warning: " + line); }

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    const bool control = c.code < 0x20 ? c.code != '\n' && c.code != '\t' : c.code >= 0x7F && c.code < 0xA0;
    if (control) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(c.code));
      out += escape;
    } else {
      append_utf8(out, c.code);   // U+FFFD where it is broken
    }
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  return out;
}

LogFile::LogFile(std::string path)
    : path_(std::move(path)), descriptor_(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  QD_CHECK(descriptor_ >= 0, path_, str("expected to open it for appending: ", std::strerror(errno)));
  const std::lock_guard lock(output().mutex);
  output().files.push_back(this);
}

LogFile::~LogFile() {
  const std::lock_guard lock(output().mutex);
  std::erase(output().files, this);
  close(descriptor_);
}

Progress::Progress(std::string what, double seconds) : what_(std::move(what)), seconds_(seconds), next_plain_(seconds) {}

std::string Progress::describe(double fraction, const std::string& text, double now) const {
  std::string line = str(what_, "  ", static_cast<int>(100 * fraction), "%");
  const double left = (1 - fraction) / (fraction - first_fraction_) * (now - first_time_);
  if (left >= 0 && left < 1e7) line += "  " + clock_time(left) + " left";   // else nothing is known yet
  line = printable(line + "  " + text);
  std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return line;
}

void Progress::update(double fraction, const std::string& text) {
  const std::lock_guard lock(output().mutex);
  if (finished_) return;
  const double now = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  fraction = fraction > 0 ? std::min(fraction, 1.0) : 0;   // 0 for NaN as well
  if (first_fraction_ < 0) first_fraction_ = fraction, first_time_ = now;
  if (now < next_drawn_) return;
  next_drawn_ = now + 0.1;
  const bool terminal = Output::is_terminal();
  const std::string line = describe(fraction, text, now);
  if (terminal) output().show(this, fit(line));
  if (now < next_plain_) return;
  next_plain_ = now + seconds_;
  if (!terminal) output().to_screen(line + "\n");
  output().to_files(line + "\n");
}

void Progress::finish() {
  const std::lock_guard lock(output().mutex);
  finished_ = true;
  if (output().owner != this) return;
  output().show(nullptr, "");
}

}  // namespace qd
