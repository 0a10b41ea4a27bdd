// Post 7031 (kexue.fm/archives/7031, 2019): when can a speed-up exceed the number of workers? Ten processes counted the words of a corpus
// 22 times as fast as one; the explanation given is that counting in small batches is faster by itself. Claims and criteria: W0 to W5.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "apps/lab/lab.h"
#include "apps/lab/timing.h"
#include "apps/lab/word_processes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "data/word_counter.h"
#include "nn/html.h"

namespace qd {
namespace {

using Words = std::vector<std::string_view>;

// Texts of 500 words each, as the post's are about; the rank of a word is V^u with u uniform, so that P(rank) is about 1 / rank.
struct Corpus {
  std::string text;
  Words words;
  size_t vocabulary;
  static constexpr size_t per_text = 500;

  Corpus(size_t tokens, double vocabulary, uint64_t seed) : vocabulary(static_cast<size_t>(vocabulary)) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> u(0, 1);
    std::vector<uint32_t> ends;
    for (size_t i = 0; i < tokens; ++i) {
      text += std::to_string(static_cast<uint64_t>(std::pow(vocabulary, u(random))));   // digits serve as letters
      ends.push_back(static_cast<uint32_t>(text.size()));
      text += (i + 1) % per_text ? ' ' : '\n';
    }
    size_t begin = 0;
    for (const uint32_t end : ends) words.emplace_back(text.data() + begin, end - begin), begin = end + 1;
  }
};

struct Tables {
  WordTable small, large;
};

void count_direct(const Words& words, WordTable& table) {
  table = {};
  for (const auto word : words) table.add(word);
}

// Returns distinct words of a batch / words, on average.
double count_batched(const Words& words, size_t texts, Tables& t) {
  t.small.clear(), t.large = {};
  int64_t distinct = 0;
  const size_t batch = texts * Corpus::per_text;
  for (size_t begin = 0; begin < words.size(); begin += batch) {
    for (size_t i = begin; i < std::min(begin + batch, words.size()); ++i) t.small.add(words[i]);
    distinct += static_cast<int64_t>(t.small.size());
    t.small.for_each([&](std::string_view word, int64_t count, uint64_t hash) { t.large.add(word, count, hash); });
    t.small.clear();
  }
  return static_cast<double>(distinct) / static_cast<double>(words.size());
}

std::vector<std::pair<std::string, int64_t>> table_of(std::string_view text, CountStrategy strategy, int64_t batch) {
  WordCounter counter({.strategy = strategy, .batch = batch, .memory = 0, .split = split_at_space, .boundary = space_boundary});
  for (const auto block : cut_text(text, 1 << 16, space_boundary)) counter.add(block);
  std::vector<std::pair<std::string, int64_t>> table;
  counter.finish(0, [&](const CountedWord& w) { table.emplace_back(w.word, w.count); });
  return table;
}

Verdict same_table(const LabOptions& o) {
  int64_t tables = 0, different = 0;
  std::string texts[] = {"", Corpus(o.quick ? 50'000 : 500'000, 3e5, 1).text, ""};
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i)
    texts[2] +=
        str(std::string(random() % 9, static_cast<char>('a' + random() % 3)), random() % 5 ? " " : "\n\r\n");   // empty texts
  const int before = threads();
  for (const std::string& text : texts) {
    set_threads(1);
    const auto expected = table_of(text, CountStrategy::direct, 1000);
    std::map<std::string, int64_t> plain;
    Words words;
    split_at_space(text, words);
    for (const auto word : words) ++plain[std::string(word)];
    different += std::map<std::string, int64_t>(expected.begin(), expected.end()) != plain;
    for (const int n : {1, 2, 3}) {
      set_threads(n);
      for (const auto strategy : {CountStrategy::direct, CountStrategy::batched, CountStrategy::sharded})
        for (const int64_t batch : {1, 999, 1000, 1001}) ++tables, different += table_of(text, strategy, batch) != expected;
    }
  }
  set_threads(before);
  return {.kind = passed_if(different == 0), .figures = {{"tables compared", str(tables)}, {"different", str(different)}}};
}

// Nanoseconds to add to a table that holds so many keys, keys drawn uniformly or as words are.
struct UpsertCosts {
  std::vector<double> keys, uniform, zipf;
  double zipf_at(double distinct) const {   // between the measured sizes, along the logarithm
    for (size_t i = 1; i < keys.size(); ++i) {
      if (distinct > keys[i]) continue;
      const double x = std::log(std::max(distinct, keys[0]) / keys[i - 1]) / std::log(keys[i] / keys[i - 1]);
      return zipf[i - 1] + x * (zipf[i] - zipf[i - 1]);
    }
    return zipf.back();
  }
};

const UpsertCosts& upsert_costs(const LabOptions& o) {
  static UpsertCosts costs;
  if (!costs.keys.empty()) return costs;
  std::mt19937_64 random(7);
  const auto key_of = [](uint64_t i, char* bytes) {
    return std::string_view(bytes, static_cast<size_t>(std::snprintf(bytes, 24, "%llu", static_cast<unsigned long long>(i))));
  };
  for (int bits = 10; bits <= (o.quick ? 20 : 23); bits += bits < 12 || bits >= 20 ? 1 : 2) {
    const uint64_t n = uint64_t{1} << bits;
    WordTable table;
    char bytes[24];
    for (uint64_t i = 0; i < n; ++i) table.add(key_of(i, bytes));
    const size_t draws = o.quick ? 1 << 18 : 1 << 20;
    std::string arena[2];
    Words keys[2];   // uniform, zipf
    std::uniform_real_distribution<double> u(0, 1);
    for (const int zipf : {0, 1}) {
      std::vector<size_t> ends;
      for (size_t i = 0; i < draws; ++i)
        arena[zipf] += key_of(zipf ? static_cast<uint64_t>(std::pow(n, u(random))) - 1 : random() % n, bytes),
            ends.push_back(arena[zipf].size());
      for (size_t i = 0, begin = 0; i < draws; begin = ends[i++])
        keys[zipf].emplace_back(arena[zipf].data() + begin, ends[i] - begin);
    }
    const auto times = best_times(3, {[&] {
                                        for (const auto k : keys[0]) table.add(k);
                                      },
                                      [&] {
                                        for (const auto k : keys[1]) table.add(k);
                                      }});
    costs.keys.push_back(static_cast<double>(n));
    costs.uniform.push_back(times[0] / static_cast<double>(draws) * 1e9);
    costs.zipf.push_back(times[1] / static_cast<double>(draws) * 1e9);
  }
  return costs;
}

Verdict growing_table(const LabOptions& o) {
  const UpsertCosts& costs = upsert_costs(o);
  Table table{.columns = {"keys", "uniform, ns", "as words are, ns"}};
  Series uniform{"uniform", {}}, zipf{"as words are", {}};
  for (size_t i = 0; i < costs.keys.size(); ++i) {
    table.rows.push_back({with_commas(static_cast<int64_t>(costs.keys[i])), shown(costs.uniform[i]), shown(costs.zipf[i])});
    uniform.points.push_back({std::log2(costs.keys[i]), costs.uniform[i]}),
        zipf.points.push_back({std::log2(costs.keys[i]), costs.zipf[i]});
  }
  const auto small = static_cast<size_t>(std::find(costs.keys.begin(), costs.keys.end(), 4096.0) - costs.keys.begin());
  const double ratio = costs.uniform.back() / costs.uniform[small], words = costs.zipf.back() / costs.zipf[small];
  return {
      .kind = passed_if(ratio >= 3),
      .figures = {{"uniform, largest / 4,096 keys", shown(ratio)},
                  {"as words are", shown(words), "the claim is about these: hot words stay in the cache"}},
      .tables = {table},
      .charts = {
          {.title = "Time of one addition", .unit = "ns, over log2 of the keys", .series = {uniform, zipf}, .from_zero = true}}};
}

struct Cell2 {
  double vocabulary, measured, predicted;
  size_t texts;
  double distinct, rate;   // distinct words; r, of a batch
};

// Direct / batched for vocabularies and batches, with what the model of the cost says beside it:
//   direct c_L(D), batched c_S + r (c_it + c_L(D)) for each word, r = distinct words of a batch / its words
const std::vector<Cell2>& batching(const LabOptions& o) {
  static std::vector<Cell2> cells;
  if (!cells.empty()) return cells;
  const UpsertCosts& costs = upsert_costs(o);
  const size_t tokens = o.quick ? 1'000'000 : 10'000'000;
  const std::vector<size_t> batches = o.quick ? std::vector<size_t>{10, 1000} : std::vector<size_t>{10, 100, 1000, 5000};
  for (const double vocabulary : {5e4, 3e5, 3e6, 3e7}) {
    const Corpus corpus(tokens, vocabulary, 1);
    WordTable direct;
    Tables t;
    std::vector<double> rates(batches.size());
    std::vector<std::function<void()>> ways = {[&] { count_direct(corpus.words, direct); }};
    for (size_t i = 0; i < batches.size(); ++i) {
      double& rate = rates[i];
      const size_t texts = batches[i];
      ways.push_back([&, texts] { rate = count_batched(corpus.words, texts, t); });
    }
    const auto times = best_times(o.quick ? 2 : 3, ways);
    const auto distinct = static_cast<double>(direct.size());
    for (size_t i = 0; i < batches.size(); ++i) {
      const double c_l = costs.zipf_at(distinct),
                   c_s = costs.zipf_at(rates[i] * static_cast<double>(batches[i] * Corpus::per_text)), c_it = 2;
      cells.push_back(
          {vocabulary, times[0] / times[i + 1], c_l / (c_s + rates[i] * (c_it + c_l)), batches[i], distinct, rates[i]});
    }
  }
  return cells;
}

Table batching_table(const LabOptions& o) {
  Table table{.columns = {"vocabulary", "distinct", "texts in a batch", "r", "direct / batched", "the model says"}};
  for (const Cell2& c : batching(o))
    table.rows.push_back({shown(c.vocabulary), with_commas(static_cast<int64_t>(c.distinct)), str(c.texts), shown(c.rate),
                          shown(c.measured), shown(c.predicted)});
  return table;
}

Verdict batching_always(const LabOptions& o) {
  const auto& cells = batching(o);
  const auto worst =
      std::min_element(cells.begin(), cells.end(), [](const Cell2& a, const Cell2& b) { return a.measured < b.measured; });
  const auto best =
      std::max_element(cells.begin(), cells.end(), [](const Cell2& a, const Cell2& b) { return a.measured < b.measured; });
  return {
      .kind = passed_if(worst->measured >= 1),
      .figures = {{"worst ratio", shown(worst->measured), str("vocabulary ", worst->vocabulary, ", batches of ", worst->texts)},
                  {"best ratio", shown(best->measured), str("vocabulary ", best->vocabulary, ", batches of ", best->texts)}},
      .tables = {batching_table(o)}};
}

Verdict batching_large(const LabOptions& o) {
  double best = 0, distinct = 0;
  for (const Cell2& c : batching(o))
    if (c.vocabulary == 3e7) best = std::max(best, c.measured), distinct = c.distinct;
  return {.kind = passed_if(best >= 1.2),
          .figures = {{"best ratio at 3e7", shown(best)}, {"distinct words", with_commas(static_cast<int64_t>(distinct))}}};
}

Verdict crossover(const LabOptions& o) {
  double worst = 1;
  int same_side = 0;
  for (const Cell2& c : batching(o)) {
    worst = std::max({worst, c.predicted / c.measured, c.measured / c.predicted});
    same_side += (c.predicted > 1) == (c.measured > 1);
  }
  return {.kind = passed_if(worst <= 1.3),
          .figures = {{"largest factor between model and measurement", shown(worst)},
                      {"cells on the same side of 1", str(same_side, " of ", batching(o).size())}}};
}

void run_counter(const Corpus& corpus, CountStrategy strategy, int n) {
  set_threads(n);
  WordCounter counter({.strategy = strategy, .batch = 1000, .memory = 0, .split = split_at_space, .boundary = space_boundary});
  for (const auto block : cut_text(corpus.text, 8 << 20, space_boundary)) counter.add(block);
  counter.finish(1, [](const CountedWord&) {});
}

Verdict two_workers(const LabOptions& o) {
  const int before = threads();
  Table table{.columns = {"vocabulary", "direct, 1", "batched, 1", "sharded, 2", "over direct", "over batched"}};
  double over_direct = 0, over_batched = 0;
  for (const double vocabulary : {3e5, 3e7}) {
    const Corpus corpus(o.quick ? 1'000'000 : 10'000'000, vocabulary, 2);
    const auto t = best_times(o.quick ? 2 : 5, {[&] { run_counter(corpus, CountStrategy::direct, 1); },
                                                [&] { run_counter(corpus, CountStrategy::batched, 1); },
                                                [&] { run_counter(corpus, CountStrategy::sharded, 2); }});
    over_direct = t[0] / t[2], over_batched = t[1] / t[2];
    table.rows.push_back(
        {shown(vocabulary), shown_time(t[0]), shown_time(t[1]), shown_time(t[2]), shown(over_direct), shown(over_batched)});
  }
  set_threads(before);
  return {.kind = passed_if(over_direct > 2 && over_batched <= 2),
          .figures = {{"two workers over direct counting", shown(over_direct), "the larger vocabulary"},
                      {"over batched counting", shown(over_batched)}},
          .note = "Sharded counting asks the memory for the places of words ahead of time, which is what batching would gain.",
          .tables = {table}};
}

Verdict processes(const LabOptions& o) {
  const int before = threads();
  const Corpus corpus(2'000'000, 3e5, 3);   // 4,000 texts
  Table table{.columns = {"texts in a batch", "two processes", "two threads", "a batch more costs, us"}};
  double first = 0, last = 0;
  const auto lines =
      cut_text(corpus.text, 1, [](std::string_view t, size_t at) { return at >= t.size() ? t.size() : t.rfind('\n', at) + 1; });
  for (const size_t texts : {1, 10, 100, 1000}) {
    const auto t = best_times(o.quick ? 2 : 3, {[&] { count_in_processes(corpus.text, lines, texts); },
                                                [&] {
                                                  set_threads(2);
                                                  WordCounter counter({.strategy = CountStrategy::batched,
                                                                       .batch = static_cast<int64_t>(texts),
                                                                       .memory = 0,
                                                                       .split = split_at_space,
                                                                       .boundary = space_boundary});
                                                  counter.add(corpus.text);
                                                  counter.finish(1, [](const CountedWord&) {});
                                                }});
    const double batches = static_cast<double>(lines.size()) / static_cast<double>(texts);
    table.rows.push_back({str(texts), shown_time(t[0]), shown_time(t[1]), shown((t[0] - t[1]) / batches * 1e6)});
    (texts == 1 ? first : last) = t[0];
  }
  set_threads(before);
  return {.kind = passed_if(first > 1.5 * last),
          .figures = {{"processes, batches of 1 / of 1,000", shown(first / last)}},
          .tables = {table}};
}

Verdict amdahl(const LabOptions& o) {
  const int before = threads();
  const Corpus corpus(o.quick ? 1'000'000 : 8'000'000, 3e6, 4);
  Words words;
  double split = 0, finish = 0, all_1 = 0, all_2 = 0;
  const auto run = [&](int n, double& tail) {
    set_threads(n);
    WordCounter counter(
        {.strategy = CountStrategy::direct, .batch = 1000, .memory = 0, .split = split_at_space, .boundary = space_boundary});
    for (const auto block : cut_text(corpus.text, 8 << 20, space_boundary)) counter.add(block);
    tail = std::min(tail, seconds_of([&] { counter.finish(1, [](const CountedWord&) {}); }));   // the best, as of the whole
  };
  double tail_1 = 1e9, tail_2 = 1e9;
  const auto t = best_times(o.quick ? 2 : 5, {[&] { run(1, tail_1); }, [&] { run(2, tail_2); },
                                              [&] { words.clear(), split_at_space(corpus.text, words); }});
  all_1 = t[0], all_2 = t[1], split = t[2], finish = tail_1;
  // With two workers: all but the merge in half the time, and the merge of one table into the other, which one worker has not.
  const double merge = tail_2 - tail_1, predicted = (all_1 - finish) / 2 + finish + std::max(merge, 0.0);
  set_threads(before);
  const auto share = [&](double seconds) { return str(shown(100 * seconds / all_1), " %"); };
  return {.kind = passed_if(std::abs(predicted / all_2 - 1) <= 0.15),
          .figures = {{"one worker", shown_time(all_1)},
                      {"of it splitting", share(split)},
                      {"counting", share(all_1 - split - finish)},
                      {"sorting", share(finish)},
                      {"merging, two workers", shown_time(std::max(merge, 0.0))},
                      {"two workers, predicted", shown_time(predicted)},
                      {"measured", shown_time(all_2)}}};
}

}  // namespace

void add_wordcount(App& app) {
  static LabOptions o;
  static const Laboratory lab{
      "wordcount",
      "Post 7031: when two workers are more than twice as fast",
      {{"W0", "All strategies, batches and threads give one table", "no table differs from a plain one", same_table},
       {"W1", "A table gets slower as it grows",
        "adding uniform keys to the largest table takes 3 times as long as to one of 4,096", growing_table},
       {"W2", "Counting in batches is always faster", "direct / batched is at least 1 for every vocabulary and batch",
        batching_always},
       {"W2b", "Counting in batches is faster when the table is far larger than the cache",
        "direct / batched is at least 1.2 at a vocabulary of 3e7", batching_large},
       {"W2c", "A model of the cost of memory explains when batches win", "predicted and measured ratios differ by at most 30 %",
        crossover},
       {"W3", "Two workers are more than twice as fast as the naive program, and not more than twice as fast as a good one",
        "over 2 against direct and at most 2 against batched counting, for the larger vocabulary", two_workers},
       {"W4", "Small batches destroy the gain of processes", "batches of one text take 1.5 times as long as of 1,000", processes},
       {"W5", "Amdahl's law predicts two workers", "predicted and measured times differ by at most 15 %", amdahl}}};
  lab.add_to(app, o);
}

}  // namespace qd
