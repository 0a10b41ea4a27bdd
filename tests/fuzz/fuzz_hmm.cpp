// Any bytes as the tables of jieba's model, one of the three at a time.
#include <cstdlib>

#include "core/error.h"
#include "data/hmm.h"

using namespace qd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string tables[] = {"P={'B': -0.3, 'E': -3.14e+100, 'M': -3.14e+100, 'S': -1.4}", "P={'B': {'E': -0.5, 'M': -0.9}}",
                          "P={'B': {'\\u4e2d': -3.5}, 'S': {'\\u56fd': -2}}"};
  tables[data[0] % 3] = text;
  try {
    const Hmm hmm(tables[0], tables[1], tables[2]);
    const uint32_t codes[] = {0x4E2D, 0x56FD, 0x4E2D, 0x9FD5, 0x4E00};
    for (size_t n = 1; n <= 5; ++n) {
      std::vector<uint32_t> lengths;
      hmm.cut(codes, n, lengths);
      size_t sum = 0;
      for (const uint32_t length : lengths) sum += length;
      if (sum != n) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
