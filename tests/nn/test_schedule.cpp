#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "nn/schedule.h"

using namespace qd;

TEST_CASE("schedule: cosine as nanoGPT has it") {
  const Schedule s{.decay = Decay::cosine, .rate = 1e-3, .minimum = 1e-4, .warmup = 100};
  const Limits limits{.steps = 2000};
  for (const int64_t step : {0, 1, 50, 99, 100, 101, 1000, 1999}) {
    CAPTURE(step);
    const auto t = static_cast<double>(step);
    const double expected = step < 100 ? 1e-3 * (t + 1) / 101 : 1e-4 + 0.5 * (1 + std::cos(M_PI * (t - 100) / 1900)) * 9e-4;
    CHECK(learning_rate(s, limits, step, 0) == doctest::Approx(expected).epsilon(1e-12));
  }
  CHECK(learning_rate(s, limits, 2000, 0) == doctest::Approx(1e-4));
  CHECK(learning_rate(s, limits, 5000, 0) == doctest::Approx(1e-4));   // beyond the end
}

TEST_CASE("schedule: linear, constant, inverse square root") {
  const Limits limits{.steps = 110};
  Schedule s{.decay = Decay::linear, .rate = 2, .minimum = 1, .warmup = 10};
  CHECK(learning_rate(s, limits, 10, 0) == doctest::Approx(2));
  CHECK(learning_rate(s, limits, 60, 0) == doctest::Approx(1.5));
  CHECK(learning_rate(s, limits, 110, 0) == doctest::Approx(1));
  s.decay = Decay::constant;
  CHECK(learning_rate(s, limits, 4, 0) == doctest::Approx(2 * 5 / 11.0));
  CHECK(learning_rate(s, limits, 109, 0) == 2);
  s.decay = Decay::inverse_sqrt;
  CHECK(learning_rate(s, limits, 10, 0) == doctest::Approx(2));
  CHECK(learning_rate(s, limits, 43, 0) == doctest::Approx(1));
  CHECK(learning_rate(s, limits, 109, 0) == 1);   // the minimum
}

TEST_CASE("schedule: the limit that is nearer decides") {
  CHECK(progress({.steps = 10, .seconds = 100}, 5, 20) == 0.5);
  CHECK(progress({.steps = 10, .seconds = 100}, 5, 80) == 0.8);
  CHECK(progress({.seconds = 4}, 1000, 1) == 0.25);
  CHECK(progress({.steps = 3}, 3, 1e9) == 1);
  CHECK(progress({.seconds = 4}, 0, 5) == 1);
  const Schedule s{.decay = Decay::linear, .rate = 1, .minimum = 0, .warmup = 2};
  CHECK(learning_rate(s, {.seconds = 4}, 1000, 1) == doctest::Approx(0.75));
  CHECK(learning_rate(s, {.seconds = 4}, 1, 1) == doctest::Approx(2 / 3.0));   // warm-up is in steps
  CHECK(learning_rate({.decay = Decay::linear, .rate = 1, .warmup = 50}, {.steps = 20}, 19, 0) == doctest::Approx(20 / 51.0));
}

TEST_CASE("schedule: names") {
  CHECK(decay_named("inverse-sqrt") == Decay::inverse_sqrt);
  CHECK_THROWS_AS(decay_named("cosin"), Error);
}
