// The products that bin/bench measures, and tests/peers with other libraries.
#pragma once

#include <cstdint>

namespace qd::bench {

struct Product {
  const char* name;
  int64_t m, n, k;
  bool ta, tb;       // stored transposed
  int64_t batch = 1;
};

// The first thirteen are single products of networks, then come batches, then one row.
inline constexpr Product product_shapes[] = {
    {"gemm NN 64^3", 64, 64, 64, false, false},
    {"gemm NN 256^3", 256, 256, 256, false, false},
    {"gemm NN 512^3", 512, 512, 512, false, false},
    {"gemm NN 1024^3", 1024, 1024, 1024, false, false},
    {"gemm NN 2048^3", 2048, 2048, 2048, false, false},
    {"gemm NT qkv 1024x1152x384", 1024, 1152, 384, false, true},
    {"gemm NT mlp up 1024x1536x384", 1024, 1536, 384, false, true},
    {"gemm NT mlp down 1024x384x1536", 1024, 384, 1536, false, true},
    {"gemm NT vocabulary 1024x8192x384", 1024, 8192, 384, false, true},
    {"gemm TN weight gradient 384x1536x1024", 384, 1536, 1024, true, false},
    {"gemm NN input gradient 1024x384x1536", 1024, 384, 1536, false, false},
    {"gemm NT attention qk 256x256x64", 256, 256, 64, false, true},
    {"gemm NN attention pv 256x64x256", 256, 64, 256, false, false},
    {"gemm batch 48 NN 64^3", 64, 64, 64, false, false, 48},
    {"gemm batch 48 NT attention qk 256x256x64", 256, 256, 64, false, true, 48},
    {"gemm batch 48 NN attention pv 256x64x256", 256, 64, 256, false, false, 48},
    {"gemm NN one row 1x1536x384", 1, 1536, 384, false, false},
    {"gemm NT one row 1x8192x384", 1, 8192, 384, false, true},
};

}  // namespace qd::bench
