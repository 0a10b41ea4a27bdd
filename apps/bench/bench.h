// The rows of the benchmark: what each does, and what of it is counted. One file per group; a new group is a line in `groups`.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace qd::bench {

// One row. `prepare` makes the data and returns the work; the data lives as long as the work.
struct Row {
  std::string name;
  const char* unit;                                  // of the rate: amount / seconds
  double amount;                                     // of one call
  double operations = 0, bytes = 0;                  // of one call: one of them gives the share of the peak or of the bandwidth
  std::function<std::function<void()>()> prepare;
  bool slow = false;                                 // left out by --quick where no names are given
  bool model = false;                                // a step of a model: its memory is told, and it gets more time
};
using Rows = std::vector<Row>;

using Prepare = std::function<std::function<void()>()>;
Row arithmetic(const std::string& name, double operations, Prepare prepare, bool slow = false);   // GFLOP/s, share of the peak
Row traffic(const std::string& name, double bytes, Prepare prepare);                              // GB/s, share of the bandwidth
Row model(const std::string& name, const char* unit, double amount, double operations, Prepare prepare, bool slow = true);   // share of the peak

void products(Rows& rows);                           // matrix products: squares, shapes of networks, batches, one row
void attentions(Rows& rows);                         // attention, forward and with its gradient
void convolutions(Rows& rows);                       // convolutions with their gradients, a step of the VQ-VAE
void transforms(Rows& rows);                         // Fourier transforms, long convolutions, a layer of rational transfer functions
void sweeps(Rows& rows);                             // one pass over memory: elementwise, sums, softmax, norms, tables, losses
void optimisers(Rows& rows);                         // one pass over weights, gradients and moments
void machinery(Rows& rows);                          // what an op costs beside its arithmetic
void language_models(Rows& rows);                    // training steps, generation

using Group = void (*)(Rows&);
inline constexpr Group groups[] = {
    products,
    attentions,
    convolutions,
    transforms,
    sweeps,
    optimisers,
    machinery,
    language_models,
};

// Data for rows.
Tensor noise(const Shape& shape);                    // uniform in [-0.5, 0.5), the same each time
Tensor random_ids(const Shape& shape, int64_t below);   // i32

// The roofs, on all threads, the best of their calls: multiply-adds in registers in the precision of products, and y += a x over two
// arrays of 128 MiB, far beyond the caches, where 12 bytes an element are read or written.
struct Roofs {
  double peak = 0, bandwidth = 0;                    // GFLOP/s, GB/s
};
Roofs measure_roofs(bool quick);

struct Measured {
  double seconds = 0;                                // median of the calls
  double roof = 0;                                   // between them, median: GFLOP/s of multiply-adds where a row has operations, GB/s for a model that
                                                     // has bytes; 0 for other rows
  double peak_mib = 0, rss_mib = 0;                  // of a model row: handed out at once by the allocator; of the whole process
};
Measured measure(const Row& row, bool quick);

// The rows that `names` ask for: a row's whole name, or what has this in its name; without names all, or all but the slow ones when
// `quick`. Throws Error for a name that fits none.
std::vector<const Row*> chosen(const Rows& rows, const std::vector<std::string>& names, bool quick);

}  // namespace qd::bench
