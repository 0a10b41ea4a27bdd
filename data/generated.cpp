#include "data/generated.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/random.h"

namespace qd {
namespace {

using Words = std::span<const char* const>;

constexpr const char* sizes[] = {"small", "big", "old", "young", "quiet", "brave", "white", "black"};
constexpr const char* animals[] = {"cat", "dog", "horse", "bird", "fox", "mouse", "bear", "goat", "frog", "hen"};
constexpr const char* seeing[] = {"sees", "hears", "follows", "finds", "likes", "leaves"};
constexpr const char* places[] = {"in the garden", "by the river", "on the hill", "under the tree", "at home", "near the road"};
constexpr const char* going[] = {"sleeps", "waits", "sings", "runs", "eats", "dreams"};
constexpr const char* numbers[] = {"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};   // numbers[n - 2]

// The grammar: every function gives one line.
class Author {
 public:
  std::string line() {
    switch (below(4)) {
      case 0:
        return someone() + " " + one_of(seeing) + " " + someone() + ".";
      case 1:
        return someone() + " " + one_of(going) + " " + one_of(places) + ".";
      case 2:
        return sum();
      default:
        return counting();
    }
  }

 private:
  size_t below(size_t n) { return std::min(n - 1, static_cast<size_t>(random_.uniform() * static_cast<double>(n))); }
  std::string one_of(Words words) { return words[below(words.size())]; }
  std::string someone() { return "the " + one_of(sizes) + " " + one_of(animals); }
  std::string sum() {
    const size_t a = below(100), b = below(100);
    return str(a, " + ", b, " = ", a + b, ".");
  }
  std::string counting() {   // of one kind, so that the sum is right
    const size_t a = 2 + below(4), b = 2 + below(4);
    const std::string kind = one_of(animals), place = one_of(places);
    const std::string many = kind == "fox" ? "foxes" : kind == "mouse" ? "mice" : kind + "s";
    const auto some = [&](size_t n) { return std::string(numbers[n - 2]) + " " + many; };
    return some(a) + " and " + some(b) + " " + place + " are " + some(a + b) + ".";
  }

  Random random_{1, stream_of("generated text")};
};

}  // namespace

std::string generated_text(size_t bytes) {
  Author author;
  std::string text;
  while (text.size() < bytes) text += author.line() + "\n";
  return text;
}

Corpus generated_corpus(double val_fraction) {
  constexpr size_t bytes = 200'000;
  Corpus corpus;
  const std::string_view text = corpus.read.emplace_back(generated_text(bytes));
  corpus.files = {"generated text"};
  const size_t cut = utf8_boundary(text, static_cast<size_t>(static_cast<double>(text.size()) * (1 - val_fraction)));
  corpus.training = {text.substr(0, cut)};
  if (cut < text.size()) corpus.held_out = {text.substr(cut)};
  return corpus;
}

}  // namespace qd
