#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <set>
#include <thread>

#include "core/ops.h"
#include "core/random.h"
#include "tests/golden.h"

using namespace qd;

TEST_CASE("random: Philox4x32-10 gives the published answers (Salmon et al. 2011, Random123's kat_vectors)") {
  const auto words = [](uint64_t seed, uint64_t stream, uint64_t block) {
    const Philox p = philox(seed, stream, block);
    return std::array{p.word[0], p.word[1], p.word[2], p.word[3]};
  };
  const uint64_t ones = ~uint64_t{0};
  CHECK(words(0, 0, 0) == std::array{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(words(ones, ones, ones) == std::array{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  CHECK(words(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        std::array{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("random: a stream reads its blocks in order, streams and seeds differ") {
  Random random(5, 9);
  for (uint64_t block = 0; block < 3; ++block)
    for (int i = 0; i < 4; ++i) CHECK(random.next() == philox(5, 9, block).word[i]);
  std::set<uint32_t> firsts;
  for (uint64_t seed = 0; seed < 20; ++seed)
    for (uint64_t stream = 0; stream < 20; ++stream) firsts.insert(Random(seed, stream).next());
  CHECK(firsts.size() == 400);
  CHECK(stream_of("h.0.attn") != stream_of("h.1.attn"));
  CHECK(stream_of("wte") < uint64_t{1} << 62);
  CHECK(stream_of("a") == 0xaf63dc4c8601ec8c >> 2);   // FNV-1a's published answer
}

TEST_CASE("random: moments of uniform and normal numbers") {
  Random random(1, 2);
  constexpr int n = 200'000;
  double sum = 0, squares = 0, fourth = 0, lowest = 1, highest = 0, mean = 0, variance = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(), x = random.normal();
    lowest = std::min(lowest, u), highest = std::max(highest, u);
    mean += u / n, variance += (u - 0.5) * (u - 0.5) / n;
    sum += x / n, squares += x * x / n, fourth += x * x * x * x / n;
  }
  CHECK(lowest >= 0);
  CHECK(highest < 1);
  CHECK(std::abs(mean - 0.5) < 0.003);
  CHECK(variance == doctest::Approx(1.0 / 12).epsilon(0.01));
  CHECK(std::abs(sum) < 0.01);
  CHECK(squares == doctest::Approx(1).epsilon(0.02));
  CHECK(fourth == doctest::Approx(3).epsilon(0.04));
}

// Element i of a mask uses word i % 4 of block i / 4: the vector code and core/philox.h agree, wherever a range begins.
TEST_CASE("random: dropout draws from the stream, element by element, on every instruction set") {
  test::on_every_table([](const std::string& table) {
    CAPTURE(table);
    for (const int64_t n : {1, 3, 4, 63, 64, 65, 1023, 1025, 30'000}) {
      random_state() = {.seed = 77, .next = 12};
      const float p = 0.3f;
      const Tensor y = dropout(full({n}, 1), p);
      CHECK(random_state().next == 13);
      Random random(77, 12);
      int64_t wrong = 0;
      for (int64_t i = 0; i < n; ++i) {
        const float expected = random.next() < static_cast<uint32_t>(static_cast<double>(p) * 4294967296.0) ? 0 : 1 / (1 - p);
        wrong += y.data()[i] != expected;
      }
      CHECK(wrong == 0);
    }
  });
}

TEST_CASE("random: neighbouring streams and seeds are not correlated") {
  Random a(3, 4), b(3, 4), c(3, 5), d(4, 4);
  constexpr int n = 100'000;
  double with_c = 0, with_d = 0;
  bool equal = true;
  for (int i = 0; i < n; ++i) {
    const double x = a.normal();
    equal = equal && x == b.normal();
    with_c += x * c.normal() / n, with_d += x * d.normal() / n;
  }
  CHECK(equal);
  CHECK(std::abs(with_c) < 4 / std::sqrt(n));   // four standard errors
  CHECK(std::abs(with_d) < 4 / std::sqrt(n));
}

TEST_CASE("random: each thread has a state of its own, each op takes the next stream") {
  random_state() = {.seed = 5, .next = 10};
  CHECK(next_stream() == 10);
  std::thread([] {
    CHECK(random_state().seed == 0);
    CHECK(next_stream() == 0);
  }).join();
  CHECK(random_state().seed == 5);
  CHECK(random_state().next == 11);
}
