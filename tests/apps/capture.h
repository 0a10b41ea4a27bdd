// What an app prints and how it ends: run inside this process, or as a process of its own.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "tests/temp_dir.h"

namespace qd::test {

struct Outcome {
  int status = -1;   // of exit; minus the signal that ended a process
  std::string out, err;
  bool says(const std::string& text) const { return err.find(text) != std::string::npos; }
  std::string last_line() const {
    const size_t end = out.find_last_not_of('\n');
    if (end == std::string::npos) return "";
    const size_t begin = out.rfind('\n', end);
    return out.substr(begin == std::string::npos ? 0 : begin + 1, end + 1 - (begin == std::string::npos ? 0 : begin + 1));
  }
};

// f() with standard output and error in files.
inline Outcome captured(const std::function<int()>& f) {
  const TempDir folder;
  Outcome outcome;
  std::fflush(stdout);
  std::fflush(stderr);
  const int old_out = dup(1), old_err = dup(2);
  const auto into = [&](int descriptor, const std::string& path) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, descriptor);
    close(file);
  };
  into(1, folder / "out");
  into(2, folder / "err");
  outcome.status = f();
  std::fflush(stdout);
  std::fflush(stderr);
  dup2(old_out, 1);
  dup2(old_err, 2);
  close(old_out);
  close(old_err);
  outcome.out = read_file(folder / "out");
  outcome.err = read_file(folder / "err");
  return outcome;
}

// A program that runs beside the test, in the folder `where`. What it prints goes to files.
class Process {
 public:
  Process(std::vector<std::string> command, const std::string& where, const std::string& input = "") {
    write_file(files_ / "in", input);
    for (const char* file : {"out", "err"}) std::ofstream(files_ / file);   // there although it may be killed at once
    std::vector<char*> argv;
    for (std::string& argument : command) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string in = files_ / "in", out = files_ / "out", err = files_ / "err";
    std::fflush(stdout);
    id_ = fork();
    QD_CHECK(id_ >= 0, "fork", "expected a new process");
    if (id_ == 0) {
      const auto take = [](int descriptor, const std::string& path, int mode) {
        dup2(open(path.c_str(), mode, 0600), descriptor);
      };
      take(0, in, O_RDONLY);
      take(1, out, O_WRONLY);
      take(2, err, O_WRONLY);
      if (chdir(where.c_str()) == 0) execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Process() {
    send(SIGKILL);
    if (id_ > 0) waitpid(id_, nullptr, 0);
  }
  Process(const Process&) = delete;
  // To this process alone: once it has ended there is no id, and kill() would take -1 for everybody.
  void send(int signal) {
    if (running()) kill(id_, signal);
  }
  std::string errors() const { return read_file(files_ / "err"); }   // so far
  bool running() {
    if (id_ > 0 && waitpid(id_, &state_, WNOHANG) == id_) id_ = -1;
    return id_ > 0;
  }
  Outcome wait() {
    if (id_ > 0) waitpid(id_, &state_, 0);
    id_ = -1;   // after this nothing is sent any more
    return {WIFEXITED(state_) ? WEXITSTATUS(state_) : -WTERMSIG(state_), read_file(files_ / "out"), read_file(files_ / "err")};
  }

 private:
  const TempDir files_;
  pid_t id_ = -1;
  int state_ = 0;
};

}  // namespace qd::test
