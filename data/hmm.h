// Words that no dictionary has, out of single characters: the hidden Markov model of jieba 0.42.1 (finalseg). A character begins a word (B),
// is in its middle (M), ends it (E) or is one (S).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qd {

class Hmm {
 public:
  // The tables prob_start.py, prob_trans.py and prob_emit.py of a folder: logarithms of probabilities as Python literals.
  // Throws Error naming the file and the place in it.
  explicit Hmm(const std::string& folder);
  Hmm(std::string_view start, std::string_view transitions, std::string_view emissions);   // the texts of the files

  static bool covers(uint32_t code) { return code >= first && code <= last; }

  // Where the words of a text of such characters end: codes -> lengths of words, in characters. The most probable sequence of states in
  // doubles, in jieba's order of additions; of equal ones that of the greater letter.
  void cut(const uint32_t* codes, size_t count, std::vector<uint32_t>& lengths) const;

 private:
  static constexpr uint32_t first = 0x4E00, last = 0x9FD5;
  using States = std::array<double, 4>;   // B E M S, in the order of their letters
  States start_{};
  std::array<States, 4> transition_{};
  std::vector<States> emission_;   // by code - first
};

}  // namespace qd
