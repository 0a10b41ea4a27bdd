#include <doctest/doctest.h>

#include "core/error.h"

using namespace qd;

TEST_CASE("error: the message has the place, the hint stands beside it") {
  try {
    fail("file.txt", "expected 1, got 2", "count again");
    CHECK(false);
  } catch (const Error& error) {
    CHECK(std::string(error.what()) == "[file.txt] expected 1, got 2");
    CHECK(error.hint() == "count again");
  }
  CHECK_THROWS_AS(fail("a", "b"), std::runtime_error);
  CHECK(str("a", 1, ' ', 2.5, std::string("b")) == "a1 2.5b");
}

TEST_CASE("error: a check builds its message only when it fails") {
  int built = 0;
  const auto message = [&] { return str("expected luck, attempt ", ++built); };
  QD_CHECK(1 + 1 == 2, "luck", message());
  CHECK(built == 0);
  CHECK_THROWS_WITH_AS(QD_CHECK(1 + 1 == 3, "luck", message(), "try again"), "[luck] expected luck, attempt 1", Error);
  CHECK(built == 1);
}
