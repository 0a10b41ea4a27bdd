#include "apps/lab/word_processes.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "core/error.h"
#include "data/word_counter.h"

namespace qd {
namespace {

// All of it; false at the end of the stream or an error.
bool transfer(int socket, char* bytes, size_t count, bool out) {
  while (count > 0) {
    const ssize_t done = out ? send(socket, bytes, count, MSG_NOSIGNAL) : recv(socket, bytes, count, 0);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    bytes += done, count -= static_cast<size_t>(done);
  }
  return true;
}
bool send_text(int socket, std::string_view text) {
  uint64_t size = text.size();
  return transfer(socket, reinterpret_cast<char*>(&size), sizeof size, true) &&
         transfer(socket, const_cast<char*>(text.data()), text.size(), true);
}
bool receive_text(int socket, std::string& text) {
  uint64_t size = 0;
  if (!transfer(socket, reinterpret_cast<char*>(&size), sizeof size, false)) return false;
  text.resize(size);
  return transfer(socket, text.data(), size, false);
}

// A child: a batch in, its table out as count, length, bytes; until the parent closes.
[[noreturn]] void work(int socket) {
  std::string batch, answer;
  std::vector<std::string_view> words;
  WordTable table;
  while (receive_text(socket, batch)) {
    words.clear(), table.clear(), answer.clear();
    split_at_space(batch, words);
    for (const auto word : words) table.add(word);
    table.for_each([&](std::string_view word, int64_t count, uint64_t) {
      const auto length = static_cast<uint32_t>(word.size());
      answer.append(reinterpret_cast<const char*>(&count), sizeof count)
          .append(reinterpret_cast<const char*>(&length), sizeof length)
          .append(word);
    });
    if (!send_text(socket, answer)) break;
  }
  _exit(0);
}

}  // namespace

WordTable count_in_processes(std::string_view text, const std::vector<std::string_view>& lines, size_t texts) {
  struct Child {
    int socket = -1;
    pid_t id = -1;
    bool busy = false;
  };
  Child children[2];
  for (Child& child : children) {
    int ends[2];
    QD_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "lab wordcount", "expected a pair of sockets, got none");
    child.id = fork();
    QD_CHECK(child.id >= 0, "lab wordcount", "expected a process, got none");
    if (child.id == 0) {
      for (const Child& other : children)
        if (other.socket >= 0) close(other.socket);
      close(ends[0]);
      work(ends[1]);
    }
    close(ends[1]);
    child.socket = ends[0];
  }

  WordTable all;
  std::string answer;
  const auto take_answer = [&](Child& child) {
    if (!child.busy) return;
    child.busy = false;
    QD_CHECK(receive_text(child.socket, answer), "lab wordcount", "expected a table from a process, it has ended");
    for (const char* at = answer.data(); at < answer.data() + answer.size();) {
      int64_t count;
      uint32_t length;
      std::memcpy(&count, at, sizeof count), std::memcpy(&length, at + sizeof count, sizeof length);
      at += sizeof count + sizeof length;
      all.add({at, length}, count), at += length;
    }
  };
  for (size_t i = 0, batch = 0; i < lines.size(); i += texts, ++batch) {
    const std::string_view first = lines[i], last = lines[std::min(i + texts, lines.size()) - 1];
    Child& child = children[batch % 2];
    take_answer(child);
    QD_CHECK(send_text(child.socket, text.substr(static_cast<size_t>(first.data() - text.data()),
                                                 static_cast<size_t>(last.data() + last.size() - first.data()))),
             "lab wordcount", "expected a process that takes texts, it has ended");
    child.busy = true;
  }
  for (Child& child : children) {
    take_answer(child);
    close(child.socket);
    waitpid(child.id, nullptr, 0);
  }
  return all;
}

}  // namespace qd
