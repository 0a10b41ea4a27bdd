// The generated tables behind data/unicode.h. unicode_table.cpp says what each holds; data/make_unicode_table.py writes it.
#pragma once

#include <cstdint>
#include <span>

namespace qd::unicode_table {

extern const char* const version;
extern const std::span<const uint32_t> categories, decompositions, classes;
extern const std::span<const int32_t> lower;

}  // namespace qd::unicode_table
