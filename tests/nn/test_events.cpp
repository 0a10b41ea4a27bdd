#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/utf8.h"
#include "nn/events.h"
#include "tests/nn/event_reader.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::events_file;
using test::EventValue;
using test::read_events;
namespace fs = std::filesystem;

namespace {

std::string ascending(int first, int step) {
  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes += static_cast<char>(first + step * i);
  return bytes;
}

}  // namespace

TEST_CASE("events: CRC-32C has the published values") {
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xe3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);   // RFC 3720, B.4
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43);
  CHECK(crc32c(ascending(0, 1)) == 0x46dd794e);
  CHECK(crc32c(ascending(31, -1)) == 0x113fdb5c);
  for (const std::string& bytes : {std::string("a"), ascending(100, 7), std::string(1000, '\x80')})
    CHECK(crc32c(bytes) == test::slow_crc32c(bytes));   // the reader of these tests is right as well
}

TEST_CASE("events: what is written can be read by the published format") {
  const test::TempDir folder;
  {
    EventsFile events(folder / "", 0);
    events.scalars(10, "train", {{"loss", 2.5}, {"lr", 1e-3}, {"grad_norm", NAN}});
    events.scalars(int64_t{1} << 40, "val", {{"val_loss", -2.25}, {"bits_per_byte", 1e300}});
    events.text(20, "sample", "春 <b>\nsecond\n" + std::string(300, 'x'));
    events.text(21, "sample", std::string("\xff\x00\x1b", 3));
    CHECK(events.length() == static_cast<int64_t>(fs::file_size(events_file(folder / ""))));
  }
  const std::string name = fs::path(events_file(folder / "")).filename();
  CHECK(name.find(".qiudao." + std::to_string(getpid())) != std::string::npos);
  char host[256] = {};
  REQUIRE(gethostname(host, sizeof host - 1) == 0);
  CHECK(name.find(str(".", host, ".")) == std::string::npos);

  const std::vector<EventValue> all = read_events(events_file(folder / ""));
  REQUIRE(all.size() == 7);
  CHECK(all[0].tag == "train/loss");
  CHECK(all[0].step == 10);
  CHECK(all[0].number == 2.5f);
  CHECK(all[1].tag == "train/lr");
  CHECK(all[1].number == 1e-3f);
  CHECK(std::isnan(all[2].number));
  CHECK(all[3].tag == "val/loss");
  CHECK(all[3].step == int64_t{1} << 40);
  CHECK(all[3].number == -2.25f);
  CHECK(all[4].tag == "val/bits_per_byte");
  CHECK(std::isinf(all[4].number));
  CHECK(all[5].tag == "sample");
  CHECK(all[5].step == 20);
  CHECK(all[5].text == "    春 <b>\n    second\n    " + std::string(300, 'x'));   // Markdown's code
  CHECK(count_invalid_utf8(all[6].text) == 0);
  CHECK(all[6].text == "    \xef\xbf\xbd\\x00\\x1b");
}

TEST_CASE("events: a run that resumes continues its file where the checkpoint was") {
  const test::TempDir folder;
  int64_t saved = 0;
  const auto steps = [&](EventsFile& events, int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; ++step) events.scalars(step, "train", {{"loss", static_cast<double>(step)}});
  };
  {
    EventsFile events(folder / "", 0);
    steps(events, 1, 5);
    saved = events.length();
    steps(events, 6, 9);
  }
  const std::string path = events_file(folder / ""), whole = read_file(path);
  const auto check_continued = [&](int64_t from) {
    {
      EventsFile events(folder / "", saved);
      steps(events, from, 12);
    }
    const auto all = read_events(events_file(folder / ""));
    REQUIRE(all.size() == 12);
    for (size_t i = 0; i < all.size(); ++i) CHECK(all[i].step == static_cast<int64_t>(i + 1));
  };
  check_continued(6);
  write_file(path, whole.substr(0, whole.size() - 3));   // a kill in the midst of a record
  check_continued(6);
  write_file(path, whole.substr(0, static_cast<size_t>(saved) - 3));   // the machine stopped: less was kept than the checkpoint speaks of
  check_continued(5);
  std::string damaged = whole;
  damaged[static_cast<size_t>(saved) - 6] ^= 1;   // in the fifth record
  write_file(path, damaged);
  check_continued(5);
  write_file(path, std::string(8, '\x7f') + whole);   // a length beyond everything
  check_continued(1);
  fs::remove(path);
  write_file(folder / "events.out.tfevents.1500000000.elsewhere.7", "another program's");
  EventsFile(folder / "", saved).scalars(6, "train", {{"loss", 1}});
  CHECK(read_file(folder / "events.out.tfevents.1500000000.elsewhere.7") == "another program's");
  fs::remove(folder / "events.out.tfevents.1500000000.elsewhere.7");
  CHECK(read_events(events_file(folder / "")).size() == 1);
}

TEST_CASE("events: a full disk is an error, and leaves whole records") {
  const test::TempDir folder;
  EventsFile events(folder / "", 0);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 300, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  int written = 0;
  bool failed = false;
  for (; written < 100 && !failed; ++written) {
    try {
      events.scalars(written, "train", {{"loss", 1}});
    } catch (const Error&) {
      failed = true;
    }
  }
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  CHECK(failed);
  CHECK(std::ssize(read_events(events_file(folder / ""))) == written - 1);
  events.scalars(500, "train", {{"loss", 1}});   // there is room again
  CHECK(read_events(events_file(folder / "")).back().step == 500);
  CHECK_THROWS_AS(EventsFile(folder / "missing", 0), Error);
  EventsFile none;
  none.scalars(1, "train", {{"loss", 1}});
  CHECK(none.length() == 0);
}
