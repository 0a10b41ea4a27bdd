// How near one picture is to another.
#pragma once

#include <span>

#include "data/picture.h"

namespace qd {

// Mean squared difference of two pictures' values from -1 to 1, clamped to that range, as values from 0 to 1.
double picture_mse(std::span<const float> a, std::span<const float> b);
double picture_mse(const Picture& a, const Picture& b);   // throws Error: different sizes
double psnr(double mse);                                  // 10 log10(1 / mse), in dB; at most 100

// Mean bytes of JPEG files of these pictures, as stb writes them, heads and all, at the lowest quality whose mean PSNR is at least so much, in dB (found by
// halving: quality and PSNR rise together); 0: there is none.
double jpeg_size(std::span<const Picture> pictures, double wanted);
constexpr double jpeg_head = 607;                         // bytes of such a file before its pixels

// Structural similarity of the brightness (ITU-R BT.601), by a Gaussian window of deviation 1.5 cut off at 11 x 11, at all places where it
// fits (Wang et al. 2004); smaller pictures have smaller windows. 1: the same. Throws Error: different sizes.
double ssim(const Picture& a, const Picture& b);

}  // namespace qd
