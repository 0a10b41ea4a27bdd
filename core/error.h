// Errors a user can act on: "[op or file] what was expected, what was given", then a hint.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace qd {

// Thrown for every mistake that a caller or a file can make. what() is the message, hint() says what to try next (may be empty).
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, std::string hint) : std::runtime_error(message), hint_(std::move(hint)) {}
  const std::string& hint() const { return hint_; }

 private:
  std::string hint_;
};

// str(1, " of ", 2.5) -> "1 of 2.5"
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws Error with the message "[where] message".
[[noreturn]] void fail(const std::string& where, const std::string& message, const std::string& hint = "");

}  // namespace qd

// QD_CHECK(heads > 0, "attention", str("expected heads > 0, got ", heads)): the message is built only when the condition is false.
// The only macro of the project. A third argument after the message is the hint.
#define QD_CHECK(condition, where, ...) \
  do {                                  \
    if (!(condition)) [[unlikely]]      \
      ::qd::fail(where, __VA_ARGS__);   \
  } while (false)
