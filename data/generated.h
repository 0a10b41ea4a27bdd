// A text made by rules, for trainers that are given no data: short sentences and sums, always the same.
#pragma once

#include <cstddef>
#include <string>

#include "data/text.h"

namespace qd {

std::string generated_text(size_t bytes);       // whole lines, at least so many bytes
Corpus generated_corpus(double val_fraction);   // about 200 KB, its end held out as read_corpus() does with a file

}  // namespace qd
