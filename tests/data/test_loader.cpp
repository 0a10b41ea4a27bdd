#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <thread>

#include "core/allocator.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/loader.h"
#include "tests/temp_dir.h"

using namespace qd;
namespace fs = std::filesystem;

namespace {

// Characters U+4E00, U+4E01, ...: the stream's ids are 256, 257, ... in order, so that every id tells its place.
std::string counting_text(int64_t n) {
  std::string text;
  for (int64_t i = 0; i < n; ++i) append_utf8(text, static_cast<uint32_t>(0x4E00 + i));
  return text;
}

TokenStream counting_stream(int64_t n) {
  const std::string text = counting_text(n);
  const std::string_view part = text;
  return TokenStream(*make_tokenizer("char", {&part, 1}), {&part, 1});
}

std::vector<int32_t> ids_of(const Tensor& x) { return {x.values<int32_t>().begin(), x.values<int32_t>().end()}; }

std::vector<int32_t> ids_of(const Batch& b) {
  auto all = ids_of(b.inputs);
  const auto targets = ids_of(b.targets);
  all.insert(all.end(), targets.begin(), targets.end());
  return all;
}

}  // namespace

TEST_CASE("token stream: holds what the tokenizer gives, whatever the parts and the width") {
  const test::TempDir folder;
  std::string wide;   // more than 65,536 ids
  for (uint32_t code = 0x80; code < 0x20000; ++code) {
    if (code < 0xD800 || code >= 0xE000) append_utf8(wide, code);
  }
  const std::string texts[] = {counting_text(1000), wide};
  for (const std::string& text : texts) {
    const std::string_view parts[] = {text, "", "and more", text};
    const auto tokenizer = make_tokenizer("char", parts);
    TokenStream moved(*tokenizer, parts, folder / "");
    const TokenStream stream = std::move(moved);
    const auto expected = tokenizer->encode(text + "and more" + text);
    CHECK(stream.size() == static_cast<int64_t>(expected.size()));
    CHECK(stream.text_bytes() == static_cast<int64_t>(2 * text.size() + 8));
    std::vector<int32_t> all(expected.size());
    stream.read(0, all);
    CHECK(all == expected);
    std::vector<int32_t> some(7);
    stream.read(501, some);
    CHECK(some == std::vector<int32_t>(expected.begin() + 501, expected.begin() + 508));
    stream.read(stream.size() - 7, some);
    CHECK(some.back() == expected.back());
    CHECK_THROWS_AS(stream.read(stream.size() - 6, some), Error);
    CHECK_THROWS_AS(stream.read(-1, some), Error);
    CHECK_THROWS_AS(stream.read(INT64_MAX, some), Error);
    stream.read(stream.size(), {});
    CHECK(fs::is_empty(folder / ""));
  }
  const auto bytes = make_tokenizer("byte", {});
  CHECK(TokenStream(*bytes, {}).size() == 0);
  CHECK_THROWS_AS(TokenStream(*bytes, {}, folder / "missing"), Error);
}

TEST_CASE("token stream: ids outside of the vocabulary are refused") {
  struct Wrong final : Tokenizer {
    std::string kind() const override { return "wrong"; }
    int64_t size() const override { return 3; }
    std::string_view bytes(int32_t) const override { return ""; }
    void save(const std::string&) const override {}
    std::vector<int32_t> encode_piece(std::string_view text) const override { return {text[0] == 'a' ? 3 : -1}; }
  };
  for (const std::string_view part : {"a", "b"})
    CHECK_THROWS_WITH(TokenStream(Wrong(), {&part, 1}), doctest::Contains("from 0 to 2"));
}

TEST_CASE("loader: windows are (seed, sample) and nothing else") {
  const int64_t batch = 3, context = 5;
  WindowLoader loader(counting_stream(100), {.batch = batch, .context = context, .seed = 7});
  std::vector<std::vector<int32_t>> rows;
  for (int n = 0; n < 40; ++n) {
    const Batch b = loader.next();
    REQUIRE(b.inputs.shape() == Shape{batch, context});
    REQUIRE(b.targets.shape() == Shape{batch, context});
    const auto x = ids_of(b.inputs), y = ids_of(b.targets);
    for (int64_t r = 0; r < batch; ++r) {
      rows.emplace_back(x.begin() + r * context, x.begin() + (r + 1) * context);
      for (int64_t t = 0; t < context; ++t) {
        CHECK(y[static_cast<size_t>(r * context + t)] == x[static_cast<size_t>(r * context + t)] + 1);
        CHECK(x[static_cast<size_t>(r * context + t)] == x[static_cast<size_t>(r * context)] + t);
      }
    }
  }
  // Two processes of three rows draw what one process of six rows draws; other batch sizes share the samples.
  WindowLoader six(counting_stream(100), {.batch = 6, .context = context, .seed = 7});
  WindowLoader first(counting_stream(100), {.batch = 3, .context = context, .seed = 7, .rank = 0, .world = 2});
  WindowLoader second(counting_stream(100), {.batch = 3, .context = context, .seed = 7, .rank = 1, .world = 2});
  for (int n = 0; n < 20; ++n) {
    auto both = ids_of(first.next().inputs);
    const auto more = ids_of(second.next().inputs);
    both.insert(both.end(), more.begin(), more.end());
    const auto x = ids_of(six.next().inputs);
    CHECK(x == both);
    for (size_t r = 0; r < 6; ++r)
      CHECK(std::equal(rows[6 * n + r].begin(), rows[6 * n + r].end(), x.begin() + static_cast<int64_t>(r) * context));
  }
  WindowLoader other(counting_stream(100), {.batch = 120, .context = context, .seed = 8});
  CHECK(ids_of(other.next().inputs) !=
        ids_of(WindowLoader(counting_stream(100), {.batch = 120, .context = context, .seed = 7}).next().inputs));
}

TEST_CASE("loader: every start is drawn, the first and the last too, about equally often") {
  const int64_t n = 20, context = 4, draws = 16000;
  WindowLoader loader(counting_stream(n), {.batch = draws, .context = context, .seed = 1});
  std::map<int32_t, int64_t> count;
  const Batch b = loader.next();
  for (int64_t r = 0; r < draws; ++r) ++count[b.inputs.data<int32_t>()[r * context] - 256];
  CHECK(static_cast<int64_t>(count.size()) == n - context);
  CHECK(count.begin()->first == 0);
  CHECK(count.rbegin()->first == n - context - 1);
  for (const auto& [start, times] : count) CHECK(std::abs(times - 1000) < 150);

  WindowLoader only(counting_stream(5), {.batch = 2, .context = 4, .seed = 1});   // context + 1 tokens: one place
  CHECK(ids_of(only.next().inputs) == std::vector<int32_t>{256, 257, 258, 259, 256, 257, 258, 259});
}

TEST_CASE("loader: the saved position is that of the consumed batches, at any moment and on the loader itself") {
  const WindowOptions options{.batch = 2, .context = 3, .seed = 5};
  WindowLoader straight(counting_stream(500), options);
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 60; ++i) expected.push_back(ids_of(straight.next()));

  for (const int stop : {0, 1, 7, 20}) {
    WindowLoader before(counting_stream(500), options);
    for (int i = 0; i < stop; ++i) CHECK(ids_of(before.next()) == expected[i]);
    if (stop == 7) std::this_thread::sleep_for(std::chrono::milliseconds(20));   // the queue is full
    State state;
    before.save(state, "loader.");
    for (int i = stop; i < stop + 15; ++i) CHECK(ids_of(before.next()) == expected[i]);
    before.load(state, "loader.");   // back, with a running thread
    for (int i = stop; i < stop + 15; ++i) CHECK(ids_of(before.next()) == expected[i]);

    WindowLoader after(counting_stream(500), options);
    after.load(state, "loader.");
    for (int i = stop; i < stop + 15; ++i) CHECK(ids_of(after.next()) == expected[i]);
  }

  State state;
  straight.save(state, "");
  WindowLoader shorter(counting_stream(499), options);
  CHECK_THROWS_WITH(shorter.load(state, ""), doctest::Contains("500 tokens, got 499"));
  state.put("consumed", int64_t{-1});
  CHECK_THROWS_AS(straight.load(state, ""), Error);
  CHECK_THROWS_AS(straight.load(State{}, ""), Error);
}

TEST_CASE("loader: reading ahead holds no tensors") {
  WindowLoader loader(counting_stream(500), {.batch = 4, .context = 8, .seed = 5});
  loader.next();
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const int64_t tensors = live_storages(), active = memory_use().active;
  for (int i = 0; i < 50; ++i) loader.next();
  CHECK(live_storages() == tensors);
  CHECK(memory_use().active == active);
}

TEST_CASE("loader: impossible options have a message") {
  CHECK_THROWS_WITH(WindowLoader(counting_stream(9), {.batch = 1, .context = 9, .seed = 1}),
                    doctest::Contains("= 10 tokens, got 9"));
  CHECK_THROWS_AS(WindowLoader(TokenStream(), {.batch = 1, .context = 1, .seed = 1}), Error);
  CHECK_THROWS_AS(WindowLoader(counting_stream(9), {.batch = 0, .context = 1, .seed = 1}), Error);
  CHECK_THROWS_AS(WindowLoader(counting_stream(9), {.batch = 1, .context = 0, .seed = 1}), Error);
  CHECK_THROWS_AS(WindowLoader(counting_stream(9), {.batch = 1, .context = 1, .seed = 1, .rank = 2, .world = 2}), Error);
  try {
    WindowLoader(counting_stream(9), {.batch = 1, .context = 64, .seed = 1});
  } catch (const Error& error) {
    CHECK(error.hint().find("--context 8") != std::string::npos);
  }
}

TEST_CASE("prefetch: an exception arrives after the items before it, and the item is tried again") {
  std::atomic<bool> broken = true;
  Prefetch<int> items(
      [&](int64_t i) {
        if (i == 5 && broken) throw std::runtime_error("no item 5");
        return static_cast<int>(i * i);
      },
      3);
  for (int i = 0; i < 5; ++i) CHECK(items.next() == i * i);
  CHECK_THROWS_WITH(items.next(), "no item 5");
  CHECK_THROWS_WITH(items.next(), "no item 5");
  CHECK(items.position() == 5);
  broken = false;
  CHECK(items.next() == 25);
  items.seek(100);
  CHECK(items.next() == 10000);
}

TEST_CASE("prefetch: stays within its depth, opens no parallel region and leaves at any moment") {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int64_t> made = 0;
    std::atomic<bool> elsewhere = false;
    {
      Prefetch<int64_t> items(
          [&](int64_t i) {
            const auto self = std::this_thread::get_id();
            parallel_for(1 << 12, 1, [&](int64_t, int64_t) { elsewhere = elsewhere || std::this_thread::get_id() != self; });
            ++made;
            return i;
          },
          4);
      for (int64_t i = 0; i < round % 7; ++i) CHECK(items.next() == i);
      if (round % 10 == 3) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        CHECK(made <= items.position() + 4 + 1);   // one more waits at the door
      }
    }
    CHECK(!elsewhere);
  }
}

TEST_CASE("windows in order: every token but the first is a target exactly once, and stands in its context") {
  for (int64_t n = 2; n < 40; ++n) {
    for (const int64_t context : {1, 2, 5, 8, 100}) {
      for (const int64_t batch : {1, 2, 3, 50}) {
        const TokenStream stream = counting_stream(n);
        const WindowSequence windows(stream, batch, context);
        std::vector<int32_t> targets;
        for (int64_t i = 0; i < windows.size(); ++i) {
          const Batch b = windows[i];
          CHECK(b.inputs.shape() == b.targets.shape());
          CHECK(b.inputs.dim(0) <= batch);
          const bool full = b.inputs.dim(1) == context;
          CHECK((full || (b.inputs.dim(0) == 1 && b.inputs.dim(1) < context && i + 1 == windows.size())));
          const auto x = ids_of(b.inputs), y = ids_of(b.targets);
          for (size_t k = 0; k < x.size(); ++k) CHECK(y[k] == x[k] + 1);
          targets.insert(targets.end(), y.begin(), y.end());
        }
        CHECK(static_cast<int64_t>(targets.size()) == windows.targets());
        for (int64_t k = 0; k < n - 1; ++k) CHECK(targets[static_cast<size_t>(k)] == 257 + k);
        CHECK_THROWS_AS(windows[windows.size()], Error);
        CHECK_THROWS_AS(windows[-1], Error);
      }
    }
  }
  for (const int64_t n : {0, 1})
    CHECK_THROWS_WITH(WindowSequence(counting_stream(n), 1, 1), doctest::Contains("at least 2 tokens"));
}

TEST_CASE("token stream: kill -9 with a full queue leaves nothing behind") {
  const test::TempDir folder;
  const std::string text = counting_text(5000);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    serial_thread();   // a forked process has none of its parent's threads
    const std::string_view part = text;
    TokenStream stream(*make_tokenizer("byte", {}), {&part, 1}, folder / "");
    WindowLoader loader(std::move(stream), {.batch = 4, .context = 16, .seed = 1});
    loader.next();
    usleep(20000);
    kill(getpid(), SIGKILL);
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
  CHECK(fs::is_empty(folder / ""));
}
