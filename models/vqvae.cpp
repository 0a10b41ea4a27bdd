#include "models/vqvae.h"

#include "core/error.h"
#include "models/vqvae2.h"

namespace qd {

std::unique_ptr<PictureCoder> make_picture_coder(const VQVAEConfig& c) {
  QD_CHECK(c.levels == 1 || c.levels == 2, "--levels", str("expected 1 or 2, got ", c.levels));
  QD_CHECK(c.levels == 1 || c.net == PictureNet::paper, "--levels", "expected 1 with --net post, got 2", "two levels have the paper's network");
  if (c.levels == 1) return std::make_unique<VQVAE>(c);
  return std::make_unique<VQVAE2>(c);
}

}  // namespace qd
