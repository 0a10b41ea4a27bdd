#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
namespace fs = std::filesystem;

namespace {

int64_t count(const std::string& text, const std::string& part) {
  int64_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

void wait(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// While one lives, standard error goes to a file, or to a terminal of its own.
class Screen {
 public:
  enum Kind { file, terminal };
  explicit Screen(Kind kind, int columns = 80) : saved_(dup(STDERR_FILENO)), term_(getenv("TERM") ? getenv("TERM") : "") {
    setenv("TERM", "xterm", 1);
    const std::string path = folder_ / "stderr";
    int to = -1;
    if (kind == file) {
      to = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      source_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    } else {
      source_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
      REQUIRE(grantpt(source_) == 0);
      REQUIRE(unlockpt(source_) == 0);
      to = open(ptsname(source_), O_RDWR | O_NOCTTY | O_CLOEXEC);
      const winsize size{.ws_row = 24, .ws_col = static_cast<unsigned short>(columns), .ws_xpixel = 0, .ws_ypixel = 0};
      ioctl(to, TIOCSWINSZ, &size);
      termios raw;
      tcgetattr(to, &raw);
      cfmakeraw(&raw);
      tcsetattr(to, TCSANOW, &raw);
      fcntl(source_, F_SETFL, O_NONBLOCK);
    }
    REQUIRE(to >= 0);
    dup2(to, STDERR_FILENO);
    close(to);
  }
  ~Screen() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    close(source_);
    term_.empty() ? unsetenv("TERM") : setenv("TERM", term_.c_str(), 1);
  }
  Screen(const Screen&) = delete;

  std::string text() {   // what came since the last call
    std::string out;
    char bytes[4096];
    for (ssize_t got; (got = read(source_, bytes, sizeof bytes)) > 0;) out.append(bytes, static_cast<size_t>(got));
    return out;
  }

 private:
  const test::TempDir folder_;
  const int saved_;
  const std::string term_;
  int source_;
};

constexpr double until_shown = 0.55;   // short work shows nothing
const std::string clear = "\r\x1b[K";

}  // namespace

TEST_CASE("log: lines go to standard error and to the open files") {
  const test::TempDir folder;
  write_file(folder / "log.txt", "an earlier run\n");
  Screen screen(Screen::file);
  log("nobody listens");
  {
    const LogFile file(folder / "log.txt");
    log("one");
    {
      const LogFile second(folder / "second.txt");
      warn("two");
    }
    log("three\nin two lines");
  }
  log("four");
  CHECK(screen.text() == "nobody listens\none\nwarning: two\nthree\nin two lines\nfour\n");
  CHECK(read_file(folder / "log.txt") == "an earlier run\none\nwarning: two\nthree\nin two lines\n");
  CHECK(read_file(folder / "second.txt") == "warning: two\n");
}

TEST_CASE("log: what a terminal could obey is made visible") {
  const test::TempDir folder;
  CHECK(printable("") == "");
  CHECK(printable("plain é 求导 \U0001F600\n\tend") == "plain é 求导 \U0001F600\n\tend");
  CHECK(printable("\x1b[2J\r\a\x7f") == "\\x1b[2J\\x0d\\x07\\x7f");
  CHECK(printable(std::string("\0", 1)) == "\\x00");
  CHECK(printable("\u009b5m\u0085\u00a0") == "\\x9b5m\\x85\u00a0");
  CHECK(printable("a\x9b" "b\xff\xe6\xb1") == "a\uFFFDb\uFFFD\uFFFD\uFFFD");
  Screen screen(Screen::file);
  const LogFile file(folder / "log.txt");
  log("a sample: \x1b]0;title\a");
  warn("\x1b[31m");
  const std::string expected = "a sample: \\x1b]0;title\\x07\nwarning: \\x1b[31m\n";
  CHECK(screen.text() == expected);
  CHECK(read_file(folder / "log.txt") == expected);
}

TEST_CASE("log: a full disk costs one warning, a file that cannot be opened is an error") {
  const test::TempDir folder;
  Screen screen(Screen::file);
  {
    const LogFile full("/dev/full"), good(folder / "log.txt");
    for (int i = 0; i < 3; ++i) log("line");
  }
  const std::string text = screen.text();
  CHECK(count(text, "line\n") == 3);
  CHECK(count(text, "warning: [/dev/full] expected to append a line: No space left on device") == 1);
  CHECK(count(read_file(folder / "log.txt"), "line\n") == 3);
  const std::string missing = folder / "missing/log.txt";
  const std::string message = "[" + missing + "] expected to open it for appending: No such file or directory";
  CHECK_THROWS_WITH_AS(LogFile{missing}, message.c_str(), Error);
}

TEST_CASE("progress: plain lines in files, none for short work") {
  const test::TempDir folder;
  Screen screen(Screen::file);
  {
    const LogFile file(folder / "log.txt");
    Progress brief("brief", 0), line("training", 0), rare("rare");
    for (Progress* each : {&brief, &line, &rare}) each->update(0.25, "step 0");
    CHECK(screen.text().empty());
    brief.finish();
    wait(until_shown);
    for (Progress* each : {&brief, &line, &rare}) each->update(0.5, "step 1\nof 2\x1b");
    const std::string text = screen.text();
    CHECK(has(text, "training  50%  0:0"));
    CHECK(has(text, " left  step 1 of 2\\x1b\n"));
    CHECK(count(text, "\n") == 1);
    CHECK_FALSE(has(text, "\r"));
    CHECK(read_file(folder / "log.txt") == text);
  }
  // a terminal that can do nothing gets plain lines as well; time left counts from where resumed work began
  Screen dumb(Screen::terminal);
  setenv("TERM", "dumb", 1);
  Progress resumed("training", 0);
  resumed.update(0.5, "");
  wait(until_shown);
  resumed.update(0.501, "");   // at this rate some 270 seconds are left; 0.5 seconds if it had begun at 0
  const std::string text = dumb.text();
  CHECK(has(text, "training  50%  "));
  CHECK(has(text, " left"));
  CHECK_FALSE(has(text, "0:00 left"));
  CHECK_FALSE(has(text, "\x1b"));
}

TEST_CASE("progress: one line on a terminal, taken away before anything else is written") {
  const test::TempDir folder;
  Screen screen(Screen::terminal, 40);
  const LogFile file(folder / "log.txt");
  {
    Progress line("training");
    line.update(0, "step 0");
    log("before");
    CHECK(screen.text() == "before\n");
    wait(until_shown);
    line.update(NAN, "step 1");
    CHECK(screen.text() == clear + "training  0%  step 1");
    log("a line");
    CHECK(screen.text() == clear + "a line\n" + "training  0%  step 1");
    wait(0.11);
    line.update(7, "\x1b[31m 求导求导");   // 36 of 39 columns are taken before these
    CHECK(screen.text() == clear + "training  100%  0:00 left  \\x1b[31m 求");
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 1000; ++i) line.update(0.5, str(i));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    CHECK(static_cast<double>(count(screen.text(), clear)) <= seconds / 0.1 + 1);
    line.finish();
    CHECK(screen.text() == clear);
    line.update(1, "late");
    line.finish();
    log("after");
    CHECK(screen.text() == "after\n");
  }
  CHECK(screen.text().empty());
  CHECK(read_file(folder / "log.txt") == "before\na line\nafter\n");
  // what throws leaves no line behind
  try {
    Progress line("training");
    wait(until_shown);
    line.update(0.5, "");
    throw Error("stop", "");
  } catch (const Error&) {
    log("stop");
  }
  CHECK(has(screen.text(), clear + "stop\n"));
}

TEST_CASE("log: lines of several threads stay whole") {
  const test::TempDir folder;
  Screen screen(Screen::file);
  {
    const LogFile file(folder / "log.txt");
    Progress line("training");
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t, &line] {
        for (int i = 0; i < 100; ++i) {
          log(std::string(100, static_cast<char>('a' + t)));
          line.update(i / 100.0, "working");
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (const std::string& text : {screen.text(), read_file(folder / "log.txt")}) {
    CHECK(text.size() == 4 * 100 * 101);
    for (int t = 0; t < 4; ++t) CHECK(count(text, std::string(100, static_cast<char>('a' + t)) + "\n") == 100);
  }
}
