#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/log.h"
#include "core/random.h"
#include "nn/html.h"
#include "nn/report.h"
#include "nn/run_report.h"
#include "tests/errors.h"
#include "tests/nn/page_reader.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using nlohmann::json;
using test::chart_data;
using test::Page;
using test::parsed;
namespace fs = std::filesystem;

namespace {

const double nan_value = std::numeric_limits<double>::quiet_NaN();

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

// A page with everything, `text` in all places that take one.
std::string everything(const std::string& text) {
  Report page(text, text);
  page.figures({{text, text, text}});
  page.charts({{text, text, {{text, {{0, 1}, {10, 2}}}, {text, {{5, 1.5}}, true}}, false, true}, {.title = text, .series = {{text, {{1, 1}}}}}});
  page.section(text).note(text);
  page.table({text, {text, text}, {{text, Cell(text, Cell::Tone::good)}, {text, Cell(text, Cell::Tone::bad)}}}).table({.title = text, .rows = {{text, text}}});
  page.samples({{text, text}, {text, text}});
  page.heatmaps({{text, text}, {{text, {{text, {0, 0.5f, 1, 2}}}}}});
  page.picture("\x89PNG\r\n", text).command(text);
  return page.html();
}

// Points 0 .. n-1 with noise.
std::vector<Point> noise(int64_t n) {
  Random random(5, 0);
  std::vector<Point> points;
  for (int64_t i = 0; i < n; ++i) points.push_back({static_cast<double>(i), random.normal()});
  return points;
}

}  // namespace

TEST_CASE("report: letters and numbers") {
  CHECK(escaped("a<b> & \"c\" 'd'") == "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  CHECK(escaped(std::string("\0\x1b\x7f\n\t\xff春", 9)) == "\\x00\\x1b\\x7f\n\t\xef\xbf\xbd春");
  const std::pair<const char*, const char*> codes[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}, {"\xff\xfe", "//4="}};
  for (const auto& [bytes, code] : codes) CHECK(base64(bytes) == code);   // RFC 4648, section 10
  const std::pair<double, const char*> numbers[] = {{0, "0"},         {1.8724, "1.872"},       {-1.5, "-1.500"}, {9.9996, "10.00"}, {999.96, "1,000"}, {1234567, "1,234,567"},
                                                    {2e-3, "0.002000"}, {3.16227e-5, "3.16e-5"}, {1e16, "1.00e16"}, {nan_value, "–"}, {-12345, "-12,345"}};
  for (const auto& [number, text] : numbers) CHECK(shown(number) == text);
  CHECK(with_commas(-100) == "-100");
  CHECK(with_commas(1000) == "1,000");
  CHECK(shown_time(3.14159) == "3.14 s");
  CHECK(shown_time(125) == "2 min 05 s");
  CHECK(shown_time(50000) == "13 h 53 min");
}

TEST_CASE("report: a page is well formed and fetches nothing") {
  const std::string html = everything("plain");
  const Page page = parsed(html);
  test::check_self_contained(html);
  for (const char* tag : {"h1", "h2", "svg", "table", "details", "canvas", "img", "dl"}) CHECK(std::count(page.tags.begin(), page.tags.end(), tag) > 0);
  CHECK(has(html, "src=\"data:image/png;base64,iVBORw0K\""));
  CHECK(has(html, "data-map=\"AID//w==\""));   // 0, 1/2, 1 and what is beyond 1 as bytes
  CHECK(has(html, "prefers-color-scheme: dark"));
  CHECK_THROWS_AS(Report("x").heatmaps({{"a", "b"}, {{"g", {{"m", {1, 2, 3}}}}}}), Error);
  const std::string nothing = Report("empty").figures({}).charts({}).section("Nothing").table({}).samples({}).heatmaps({}).html();
  CHECK_FALSE(has(nothing, "Nothing"));
  parsed(nothing);
}

TEST_CASE("report: no text gets out of its place") {
  const Page plain = parsed(everything("x"));
  std::string all_bytes;
  for (int i = 0; i < 256; ++i) all_bytes += static_cast<char>(i);
  for (const std::string& hostile :
       {std::string("</script><script>alert(1)</script>"), std::string("</pre></style></title><b onclick=\"x\">"), std::string("\"'><img src=x onerror=alert(1)>"),
        std::string("<!--"), std::string("-->]]>"), std::string("&lt;&amp;&#60;"), std::string("\0<\0b>", 5), all_bytes, std::string("\xf0\x9f\xf0<b>"), std::string("春眠不觉晓")}) {
    const std::string html = everything(hostile);
    const Page page = parsed(html);
    CHECK(page.tags == plain.tags);
    std::string shown_text = page.text;
    CHECK(count(shown_text, printable(hostile)) >= 15);   // and it is all there
    for (size_t i = 0; i + 1 < page.scripts.size(); ++i) CHECK(page.scripts[i] == plain.scripts[i]);
    test::check_self_contained(html.find("src=x") == std::string::npos ? html : "");
  }
  const Page broken = parsed(Report("t").samples({{"s", "\nfirst\r\nsecond\r\n"}}).html());
  CHECK(has(broken.text, "\n\nfirst\nsecond\n"));   // a browser drops the first line end after <pre>
}

TEST_CASE("report: thinning keeps extremes, ends and gaps") {
  auto points = noise(100000);
  points[31234].y = 50;
  points[70001].y = -60;
  points[55555].y = nan_value;
  for (size_t i = 40000; i < 42000; ++i) points[i].y = nan_value;
  for (const bool logarithmic : {false, true}) {
    const Axis x{logarithmic ? 1.0 : 0.0, 99999, logarithmic};
    const auto few = thinned(points, x, 500);
    CHECK(few.size() > 500);
    CHECK(few.size() <= 1200);
    CHECK(few.front().x == 0);
    CHECK(few.back().x == 99999);
    CHECK(std::is_sorted(few.begin(), few.end(), [](const Point& a, const Point& b) { return a.x < b.x; }));
    const auto kept = [&](double at) { return std::any_of(few.begin(), few.end(), [&](const Point& p) { return p.x == at; }); };
    CHECK(kept(31234));
    CHECK(kept(70001));
    CHECK(std::any_of(few.begin(), few.end(), [](const Point& p) { return p.x == 55555 && std::isnan(p.y); }));
    const auto inside = std::count_if(few.begin(), few.end(), [](const Point& p) { return p.x >= 40000 && p.x < 42000 && std::isnan(p.y); });
    CHECK(inside >= 2);
    for (const Point& p : few) CHECK((std::isnan(p.y) || p.y == points[static_cast<size_t>(p.x)].y));   // nothing is made up
    // of every part of the axis the least and the greatest value
    for (size_t begin = 0; begin < points.size(); begin += 20000) {
      const auto less = [](const Point& a, const Point& b) { return a.y < b.y || (std::isnan(b.y) && !std::isnan(a.y)); };
      const auto least = *std::min_element(points.begin() + static_cast<int64_t>(begin), points.begin() + static_cast<int64_t>(begin) + 20000, less);
      CHECK(kept(least.x));
    }
  }
  const auto same = thinned(noise(100), {0, 99}, 50);
  CHECK(same.size() == 100);
  CHECK(thinned({}, {0, 1}, 5).empty());
}

TEST_CASE("report: axes have round ticks") {
  const auto texts = [](const Axis& axis, int about) {
    std::string out;
    const auto ticks = axis.ticks(about);
    for (const double t : ticks) out += tick_text(t, axis.logarithmic ? t : ticks[1] - ticks[0]) + " ";
    return out;
  };
  CHECK(texts({0, 2000}, 5) == "0 500 1000 1500 2000 ");
  CHECK(texts({1.83, 4.19}, 5) == "2.0 2.5 3.0 3.5 4.0 ");
  CHECK(texts({0, 1e6}, 5) == "0 200k 400k 600k 800k 1M ");
  CHECK(texts({0, 0.001}, 3) == "0 0.0005 0.0010 ");
  CHECK(texts({-1, 1}, 4) == "-1.0 -0.5 0 0.5 1.0 ");
  CHECK(texts({0, 4e-5}, 4) == "0 1e-5 2e-5 3e-5 4e-5 ");
  CHECK(texts({8, 1.2e6, true}, 6) == "10 100 1000 10k 100k 1M ");
  Random random(1, 2);
  for (int i = 0; i < 1000; ++i) {   // any range has some, all of them in it
    const double low = random.normal() * std::pow(10, random.normal() * 3), high = low + std::pow(10, random.normal() * 3) + std::abs(low) * 1e-6;
    const Axis axis{low, high};
    const auto ticks = axis.ticks(4);
    CHECK(ticks.size() >= 1);
    CHECK(ticks.size() <= 9);
    for (const double t : ticks) CHECK((axis.at(t) > -1e-6 && axis.at(t) < 1 + 1e-6));
  }
}

TEST_CASE("report: what is no number is a gap in a curve") {
  const auto drawing = [](std::vector<Point> points) { return drawn({.title = "t", .series = {{"s", std::move(points)}}}, 5); };
  const auto line = [](const std::string& html) {
    const std::string begin = "class=\"line s1\" d=\"";
    const size_t at = html.find(begin) + begin.size();
    return html.substr(at, html.find('"', at) - at);
  };
  CHECK(count(line(drawing({{0, 1}, {1, 2}, {2, 3}})), "M") == 1);
  const std::string gap = drawing({{0, 1}, {1, 2}, {2, nan_value}, {3, INFINITY}, {4, 2}, {5, 1}});
  CHECK(count(line(gap), "M") == 2);
  CHECK(count(line(gap), "L") == 2);
  CHECK(has(gap, "[[[0,1,2,3,4,5],[1,2,null,null,2,1]]]"));
  for (const std::string& html : {drawing({}), drawing({{1, nan_value}, {2, nan_value}}), drawing({{3, 7}}), drawing({{nan_value, 1}}), drawing({{0, 1e-300}, {1, 1e300}}),
                                  drawing({{0, 1e300}, {1, -1e300}}), drawing({{0, 5}, {1, 5}, {2, 5}}), drawing({{0, 0}, {1, 0}})}) {
    CHECK_FALSE(has(html, "nan"));
    CHECK_FALSE(has(html, "inf"));
    parsed(Report("t").html().substr(0, 16) + html);
  }
}

TEST_CASE("report: a long run makes a small page") {
  const auto points = noise(100000);
  const std::string html = Report("long")
                               .charts({{.title = "Loss", .series = {{"training", points}, {"validation", points, true}}, .large = true},
                                        {.title = "a", .series = {{"", points}}},
                                        {.title = "b", .series = {{"", points}}}})
                               .html();
  CHECK(html.size() < 250000);
  parsed(html);
}

TEST_CASE("report: a run directory becomes a page") {
  const test::TempDir folder;
  const std::string run = folder / "lm-007";
  fs::create_directories(run + "/samples");
  std::string metrics;
  for (int step = 10; step <= 100; step += 10) {
    metrics += json{{"step", step}, {"seconds", step * 0.5}, {"loss", step == 50 ? json(nullptr) : json(400.0 / (step + 100))}, {"lr", 1e-3}, {"tokens_per_second", 1000 + step}}.dump() + "\n";
    if (step % 50 == 0) metrics += json{{"step", step}, {"seconds", step * 0.5}, {"val_loss", step == 50 ? 2.25 : 2.5}, {"bits_per_byte", step / 40.0}}.dump() + "\n";
  }
  write_file(run + "/metrics.jsonl", metrics + "not json\n[1,2]\n{\"step\":\"x\"}\n{\"step\":110,\"lo");
  write_file(run + "/samples/step-000050.txt", "early text");
  write_file(run + "/samples/step-000100.txt", "late <text>");
  write_file(run + "/samples/step-abc.txt", "no step");
  for (int step = 0; step < 30; ++step) write_file(run + str("/samples/step-", step, ".png"), str("\x89PNG", step));
  write_file(run + "/config.json", R"({"n_layer": 4, "activation_function": "gelu_new", "qiudao": {"norm": "deepnorm"}, "nothing": null})");
  write_file(run + "/run.json", R"({"app": "lm train", "version": "0.1", "command": "bin/lm train --data 'my <book>.txt'", "resumed": ["bin/lm train --resume lm-007"], "threads": 2,
    "instruction_set": "avx512", "precision": "bf16", "machine": {"processor": "Some CPU", "memory_gib": 23.5}, "options": {"data": ["/a/my <book>.txt"], "steps": 200, "max-seconds": 0.0, "lr": 0.001}})");
  write_run_report(run, {.figures = {{"parameters", "1,234"}}, .sections = [](Report& page) { page.section("Extra").note("from the app"); }});
  const std::string html = read_file(run + "/report.html");
  const Page page = parsed(html);
  test::check_self_contained(html);
  for (const char* text : {"lm-007", "lm train on my <book>.txt", "2.250", "lowest, at step 50", "1.250", "of 200", "50.0 s", "1,060", "1,234", "early text", "late <text>", "Extra",
                           "from the app", "deepnorm", "gelu_new", "Some CPU", "23.50 GiB", "bf16", "avx512", "bin/lm train --data 'my <book>.txt'", "bin/lm train --resume lm-007"})
    CHECK_MESSAGE(has(page.text, text), text);
  CHECK(has(page.text, "bin/lm train --config " + run + "/run.json"));
  CHECK(page.text.find("late <text>") < page.text.find("early text"));
  CHECK_FALSE(has(page.text, "no step"));
  std::vector<int> pictures;   // ten of thirty, the latest first, the first and the last among them
  for (size_t at = 0; (at = html.find("<figcaption>step ", at)) != std::string::npos; ++at) pictures.push_back(std::atoi(html.c_str() + at + 17));
  CHECK(pictures.size() == 10);
  CHECK(std::is_sorted(pictures.rbegin(), pictures.rend()));
  CHECK(pictures.front() == 29);
  CHECK(pictures.back() == 0);
  CHECK(page.text.find("Samples") < page.text.find("Extra"));
  CHECK(page.text.find("Extra") < page.text.find("Configuration"));
  const auto data = chart_data(page);
  REQUIRE(data.size() == 5);   // loss, over steps and their logarithm; lr, throughput, bits per byte
  CHECK(data[0] == data[1]);
  const json loss = json::parse(data[0]);
  CHECK(loss[0][0] == json({10, 20, 30, 40, 50, 60, 70, 80, 90, 100}));
  CHECK(loss[0][1][4].is_null());
  CHECK(loss[1] == json::parse("[[50,100],[2.25,2.5]]"));
}

TEST_CASE("report: a directory that holds nothing good still has a page") {
  const test::TempDir folder;
  write_run_report(folder / "");
  parsed(read_file(folder / "report.html"));
  const std::string deep = std::string(100000, '[');
  for (const std::string& text : {std::string("{"), std::string("[]"), std::string("null"), std::string("\xff\xfe\0", 3), deep, "{\"options\": " + deep,
                                  std::string(R"({"options": [], "machine": "x", "command": {"a": 1}, "resumed": [1, {}], "app": 5, "threads": []})"),
                                  std::string(R"({"options": {"data": {"a": 1}, "steps": "many", "lr": [[1]], "x": {"y": {}}}, "command": "a", "app": null})")}) {
    for (const char* file : {"run.json", "config.json", "metrics.jsonl"}) write_file(folder / file, text);
    write_run_report(folder / "");
    parsed(read_file(folder / "report.html"));
  }
  write_file(folder / "metrics.jsonl", "{\"step\":1e300,\"loss\":1e400}\n{\"step\":-5,\"loss\":1}\n{\"step\":1,\"val_loss\":null,\"x\":[1]}\n{\"step\":2,\"</script>\":1}\n");
  fs::create_directories(folder / "samples/step-1.txt");
  write_file(folder / "samples/step-99999999999999999999999.txt", "x");
  write_file(folder / "samples/step-3.png", "no picture");
  write_run_report(folder / "");
  parsed(read_file(folder / "report.html"));
  fs::create_directory(folder / "report");
  CHECK_THROWS_AS(write_run_report(folder / "missing"), Error);
}
