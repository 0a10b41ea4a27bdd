// Counting words in two processes, as the post's program does with Python's multiprocessing: batches of texts go out through sockets,
// small tables come back.
#pragma once

#include <string_view>
#include <vector>

#include "data/word_table.h"

namespace qd {

// `lines` are those of `text`, in order. Throws Error: no process to be had.
WordTable count_in_processes(std::string_view text, const std::vector<std::string_view>& lines, size_t texts);

}  // namespace qd
