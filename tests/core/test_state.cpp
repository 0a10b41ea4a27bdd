#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include "core/error.h"
#include "core/state.h"
#include "tests/errors.h"

using namespace qd;
using test::has;
using test::message_of;
using namespace std::string_view_literals;

namespace {

}  // namespace

TEST_CASE("state: whole numbers and every bit of real ones come back") {
  State state;
  for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1} << 53, INT64_MAX, INT64_MIN}) {
    state.put("n", value);
    CHECK(state.integer("n") == value);
  }
  using Limits = std::numeric_limits<double>;
  for (const double value :
       {0.0, -0.0, 0.1, 1.0 / 3, -1e300, Limits::max(), Limits::min(), Limits::denorm_min(), Limits::infinity()}) {
    state.put("x", value);
    const double back = state.real("x");
    CHECK(std::memcmp(&back, &value, sizeof value) == 0);
  }
  state.put("x", Limits::quiet_NaN());
  CHECK(std::isnan(state.real("x")));
}

TEST_CASE("state: what is missing or of another kind is named") {
  State state;
  CHECK(has(message_of([&] { state.text("step"); }), "'step', it is missing"));
  CHECK(has(message_of([&] { state.integer("step"); }), "'step', it is missing"));
  CHECK(has(message_of([&] { state.real("step"); }), "'step', it is missing"));
  for (const char* bad : {"", "x", "1x", "1.5", " 1", "9223372036854775808", "0x10"}) {
    state.texts["step"] = bad;
    CHECK(has(message_of([&] { state.integer("step"); }), str("integer in 'step', got '", bad, "'")));
  }
  for (const std::string_view bad : {""sv, "x"sv, "1.5x"sv, "1\0x"sv, "1\0"sv}) {
    state.texts["rate"] = bad;
    CHECK(has(message_of([&] { state.real("rate"); }), "number in 'rate'"));
  }
}

TEST_CASE("state: tensors must have the shape and type that is asked for") {
  State state;
  state.tensors["w"] = zeros({2, 3});
  CHECK(state.tensor("w", {2, 3}).size() == 6);
  CHECK(has(message_of([&] { state.tensor("v", {2, 3}); }), "'v', it is missing"));
  CHECK(has(message_of([&] { state.tensor("w", {3, 2}); }), "'w' of F32 (3, 2), got F32 (2, 3)"));
  CHECK(has(message_of([&] { state.tensor("w", {2, 3}, DType::i32); }), "'w' of I32 (2, 3), got F32 (2, 3)"));
}
