#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using test::message_of;
namespace fs = std::filesystem;

namespace {

std::string pattern(size_t size) {   // every byte occurs, no period that a buffer could hide
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251 + i / 65521);
  return bytes;
}

int64_t files_in(const std::string& folder) { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); }

mode_t mode_of(const std::string& path) {
  struct stat now = {};
  REQUIRE(stat(path.c_str(), &now) == 0);
  return now.st_mode & 07777;
}

// While one lives, writing a file beyond `bytes` fails as a full disk does.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }
  SizeLimit(const SizeLimit&) = delete;

 private:
  rlimit before_;
  void (*handler_)(int) = signal(SIGXFSZ, SIG_IGN);
};

// Runs f in a process of its own; what waitpid says of it: 0 where f gave 0.
template <class F>
int status_of(F f) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      _exit(f());
    } catch (...) {
      _exit(99);
    }
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("file: what is written is read, at sizes around the buffers") {
  const test::TempDir folder;
  const std::string path = folder / "file";
  for (const size_t size : {size_t{0}, size_t{1}, size_t{65535}, size_t{65536}, size_t{65537}, size_t{3} << 20}) {
    const std::string bytes = pattern(size);
    write_file(path, bytes);
    CHECK(fs::file_size(path) == size);
    CHECK(read_file(path) == bytes);
    const MappedFile mapped(path);
    CHECK(mapped.text() == bytes);
    CHECK(mapped.bytes().size() == size);
  }
  CHECK(files_in(folder / "") == 1);
  const fs::path before = fs::current_path();
  fs::current_path(folder / "");
  write_file("bare", "a name without a folder");
  fs::current_path(before);
  CHECK(read_file(folder / "bare") == "a name without a folder");
}

TEST_CASE("file: pieces of any size are joined in order, and appear with commit") {
  const test::TempDir folder;
  const std::string path = folder / "file", all = pattern(400000);
  write_file(path, "old");
  {
    AtomicFile file(path);
    size_t at = 0;
    for (size_t size = 0; at < all.size(); size = (size * 5 + 3) % 90001) {
      const size_t count = std::min(size, all.size() - at);
      file.write(all.data() + at, count);
      at += count;
    }
    CHECK(read_file(path) == "old");
    file.commit();
    CHECK(read_file(path) == all);
    CHECK(has(message_of([&] { file.commit(); }), path));
  }
  CHECK(read_file(path) == all);
  {
    AtomicFile dropped(path), other(path);   // two writers at once: the last one wins, nothing is mixed
    dropped.write("dropped", 7);
    other.write("other", 5);
    other.commit();
  }
  CHECK(read_file(path) == "other");
  CHECK(files_in(folder / "") == 1);
}

TEST_CASE("file: links are followed and stay") {
  const test::TempDir folder;
  fs::create_directory(folder / "deep");
  write_file(folder / "deep/file", "old");
  fs::create_symlink("deep/file", folder / "near");
  fs::create_symlink("near", folder / "chain");
  fs::create_symlink(folder / "deep/later", folder / "dangling");
  write_file(folder / "chain", "new");
  CHECK(read_file(folder / "deep/file") == "new");
  CHECK(fs::is_symlink(folder / "chain"));
  CHECK(fs::is_symlink(folder / "near"));
  write_file(folder / "dangling", "made");
  CHECK(read_file(folder / "deep/later") == "made");
  CHECK(fs::is_symlink(folder / "dangling"));
  fs::create_symlink("circle", folder / "circle");
  CHECK(has(message_of([&] { write_file(folder / "circle", "x"); }), folder / "circle"));
}

TEST_CASE("file: permissions stay, new files get the usual ones") {
  const test::TempDir folder;
  const mode_t mask = umask(022);
  write_file(folder / "file", "old");
  CHECK(mode_of(folder / "file") == 0644);
  REQUIRE(chmod((folder / "file").c_str(), 0600) == 0);
  write_file(folder / "file", "secret");
  CHECK(mode_of(folder / "file") == 0600);
  umask(mask);
}

TEST_CASE("file: what is no regular file is written straight into") {
  const test::TempDir folder;
  CHECK(has(message_of([] { write_file("/dev/full", "x"); }), "[/dev/full] expected to write it: No space left on device"));
  CHECK(has(message_of([] { write_file("/dev/full", pattern(1 << 20)); }), "No space left on device"));
  CHECK_NOTHROW(write_file("/dev/null", "x"));
  CHECK(fs::is_character_file("/dev/null"));

  const std::string pipe = folder / "pipe", bytes = pattern(300000);
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  std::string got;
  std::thread reader([&] { got = read_file(pipe); });
  write_file(pipe, bytes);
  reader.join();
  CHECK(got == bytes);
  std::thread writer([&] { write_file(pipe, bytes); });
  CHECK(MappedFile(pipe).text() == bytes);
  writer.join();
  CHECK(fs::is_fifo(pipe));

  // as --out /dev/stdout > file does
  write_file(folder / "file", "before ");
  const int open_file = open((folder / "file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  write_file(str("/dev/fd/", open_file), "after");
  CHECK(write(open_file, ".", 1) == 1);
  close(open_file);
  CHECK(read_file(folder / "file") == "before after.");
  CHECK(files_in(folder / "") == 2);
}

TEST_CASE("file: standard input, and files that do not know their size") {
  const std::string bytes = pattern(300000);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const int before = dup(STDIN_FILENO);
  dup2(ends[0], STDIN_FILENO);
  close(ends[0]);
  std::thread writer([&, end = ends[1]] {
    CHECK(write(end, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    close(end);
  });
  const std::string got = read_file("-");
  writer.join();
  dup2(before, STDIN_FILENO);
  close(before);
  CHECK(got == bytes);
  CHECK(has(read_file("/proc/self/status"), "VmRSS"));
  CHECK(has(std::string(MappedFile("/proc/self/status").text()), "VmRSS"));
}

TEST_CASE("file: errors name the path and the reason") {
  const test::TempDir folder;
  write_file(folder / "file", "x");
  const std::pair<std::string, const char*> unreadable[] = {
      {"missing", "No such file"}, {"", "Is a directory"}, {"file/x", "Not a directory"}};
  for (const auto& [name, reason] : unreadable) {
    const std::string path = folder / name;
    for (const std::string& message : {message_of([&] { read_file(path); }), message_of([&] { MappedFile{path}; }),
                                       message_of([&] { InputFile{path}; })}) {
      CHECK(has(message, "[" + path + "] expected to read it: "));
      CHECK(has(message, reason));
    }
  }
  const std::pair<std::string, const char*> unwritable[] = {
      {"missing/file", "No such file"}, {"", "Is a directory"}, {"file/x", "Not a directory"}};
  for (const auto& [name, reason] : unwritable) {
    const std::string path = folder / name, message = message_of([&] { write_file(path, "x"); });
    CHECK(has(message, "[" + path + "] expected to write it: "));
    CHECK(has(message, reason));
  }
  try {
    read_file(folder / "missing");
  } catch (const Error& error) {
    CHECK_FALSE(error.hint().empty());
  }
  CHECK(files_in(folder / "") == 1);
}

TEST_CASE("file: no permission") {
  const test::TempDir folder;
  const std::string path = folder / "file";
  write_file(path, "x");
  REQUIRE(chmod((folder / "").c_str(), 0755) == 0);
  REQUIRE(chmod(path.c_str(), 0000) == 0);
  const int status = status_of([&] {
    if (geteuid() == 0 && setuid(65534) != 0) return 1;   // root may do everything
    if (!has(message_of([&] { read_file(path); }), "[" + path + "] expected to read it: Permission denied")) return 2;
    if (!has(message_of([&] { write_file(path, "y"); }), "[" + path + "] expected to write it: Permission denied")) return 3;
    return 0;
  });
  CHECK(status == 0);
  chmod(path.c_str(), 0600);
  CHECK(read_file(path) == "x");
}

TEST_CASE("file: a full disk leaves the old file and nothing else") {
  const test::TempDir folder;
  const std::string path = folder / "file";
  write_file(path, "old");
  for (const size_t size : {size_t{5000}, size_t{200000}}) {   // noticed by commit, and by write
    std::string message;
    {
      const SizeLimit limit(4096);
      message = message_of([&] { write_file(path, pattern(size)); });
    }
    CHECK(has(message, "[" + path + "] expected to write it: File too large"));
    CHECK(read_file(path) == "old");
    CHECK(files_in(folder / "") == 1);
  }
}

TEST_CASE("file: a kill while writing leaves the old file") {
  const test::TempDir folder;
  const std::string path = folder / "file";
  write_file(path, "old");
  const int status = status_of([&] {
    AtomicFile file(path);
    const std::string bytes = pattern(1 << 20);
    file.write(bytes.data(), bytes.size());
    return raise(SIGKILL);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(read_file(path) == "old");
  write_file(path, "new");
  CHECK(read_file(path) == "new");
}

TEST_CASE("file: a mapping moves, and outlives the name") {
  const test::TempDir folder;
  const std::string a = pattern(100000);
  write_file(folder / "a", a);
  write_file(folder / "b", "b");
  MappedFile first(folder / "a"), second(folder / "b"), none;
  CHECK(none.text().empty());
  fs::remove(folder / "a");
  std::swap(first, second);
  CHECK(second.text() == a);
  CHECK(first.text() == "b");
  const MappedFile third = std::move(second);
  CHECK(third.text() == a);
  none = std::move(first);
  CHECK(none.text() == "b");
}

TEST_CASE("file: an input file is read at any place, not beyond its end") {
  const test::TempDir folder;
  const std::string path = folder / "file", all = pattern(1000);
  write_file(path, all);
  const InputFile file(path);
  CHECK(file.size() == 1000);
  char bytes[1000];
  file.read(bytes, 10, 990);
  CHECK(std::memcmp(bytes, all.data() + 990, 10) == 0);
  file.read(bytes, 1000, 0);
  CHECK(std::memcmp(bytes, all.data(), 1000) == 0);
  file.read(bytes, 0, 5000);
  CHECK(has(message_of([&] { file.read(bytes, 11, 990); }),
            "[" + path + "] expected 11 bytes at byte 990, the file ends 1 bytes early"));
  fs::resize_file(path, 500);
  CHECK(has(message_of([&] { file.read(bytes, 1000, 0); }), "ends 500 bytes early"));

  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(has(message_of([&] { InputFile{pipe}; }), "[" + pipe + "] expected a regular file"));   // at once: nobody writes to it
}
