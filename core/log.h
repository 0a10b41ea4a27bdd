// What a run tells its user: lines on standard error and in its log file, and one line of progress.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace qd {

void log(const std::string& line);    // goes to standard error and to every open LogFile; thread-safe, never throws
void warn(const std::string& line);   // the same, after "warning: "

// Text that a terminal can be trusted with: control characters but newline and tab as \x1b, broken UTF-8 as U+FFFD. All that is
// logged goes through this.
std::string printable(std::string_view text);

// While one lives, what is logged is appended to the file as well. A full disk costs lines and one warning, nothing more.
class LogFile {
 public:
  explicit LogFile(std::string path);   // throws Error: cannot be opened
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

 private:
  friend struct Output;
  const std::string path_;
  int descriptor_;
  bool failed_ = false;
};

// How far some long work is: per cent, time left, a text. On a terminal one line, rewritten at most ten times a second; elsewhere
// and in every LogFile, a plain line now and then. Work that is done in less than half a second shows nothing.
//   Progress line("training");
//   for (...) line.update(done, str("step ", i));
class Progress {
 public:
  explicit Progress(std::string what, double seconds = 10);   // seconds between plain lines
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(double fraction, const std::string& text);      // fraction of the work that is done, 0 to 1; thread-safe
  void finish();                                              // takes the line away

 private:
  std::string describe(double fraction, const std::string& text, double now) const;

  const std::string what_;
  const double seconds_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double next_drawn_ = 0.5, next_plain_;   // seconds since start_
  double first_fraction_ = -1, first_time_ = 0;   // of the first update: resumed work does not start at 0
  bool finished_ = false;
};

}  // namespace qd
