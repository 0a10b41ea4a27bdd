// Drawn faces that are all different: skin, hair, eyes, mouth, pose, light and background are random.
#pragma once

#include "data/pictures.h"

namespace qd {

// Picture i is drawn from the random numbers of (seed, i). The side is any; the faces are drawn without steps at their edges.
class CartoonFaces final : public PictureSet {
 public:
  CartoonFaces(int64_t size, int64_t side, uint64_t seed);
  std::string name(int64_t i) const override;

 private:
  Picture make(int64_t i) const override;
  const uint64_t seed_;
};

}  // namespace qd
