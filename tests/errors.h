// What an error says.
#pragma once

#include <exception>
#include <string>

namespace qd::test {

// The message of the exception that f() throws; "no error" where it throws none.
std::string message_of(const auto& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace qd::test
